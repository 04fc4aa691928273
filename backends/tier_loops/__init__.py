"""Compiled loops of caches and disks. They serve no stage of a backend; `recis_core/table/tiers` calls them."""
