"""Which rows go: filters choose keys, the table erases them."""
