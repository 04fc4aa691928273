"""Which new ids get a row: policies, their counters, and the storage that applies them."""
