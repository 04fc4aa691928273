"""Which new ids get a row: counters, and the storage that asks them."""
