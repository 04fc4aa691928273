"""Physical tables and their storage, and the logical tables that share them."""
