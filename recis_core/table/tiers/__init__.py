"""A table larger than its device: rows move between the device, host memory and disk, and nothing else changes.

    tiered_storage ──> tiered_state     a storage's stages; one table's tiers, under its lock
                            │
      staging, upcoming  device_tier    rows that are trained; key_index says which keys these are
       policy, victims     │   ^        the rows of lowest score leave, those of a call come back
                           v   │
                        lower_tiers     host_store over table/disk; row_format: a row as bytes, with its marks

Read cache_config (what a user sets), tiered_state and asked (one call), device_tier, lower_tiers, tiered_storage. Then what is
less usual: aside (a call that does not fit), late_marks (uses that are not written yet), prefetcher, sizes and shared_budget
(how many rows a tier holds), content and replacing (all rows out and in), walk, disk_place.
"""
