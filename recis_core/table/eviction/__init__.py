"""Which rows are evicted: filters choose keys, the table erases them."""
