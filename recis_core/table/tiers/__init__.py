"""A table larger than its device: rows move between the device, host memory and disk, and training gives the same bits.

    tiered_storage ──> tiered_call     a storage's stages; one call: keys placed, embedded, counted or taken back
          └──────────┐   │
                     tiered_state      one table's tiers, under its lock (turn): rows come, leave, are counted
      planned_calls   │   ^            calls that a Prefetcher announced; staging brings their rows ahead
                  device_tier          rows that are trained, and an index of them (key_index); victims: who leaves
                      v   │
                  lower_tiers          host_store over table/disk; row_format: a row as bytes; deferred_marks: late uses

Read options/cache_config (what a user sets), tiered_state, tiered_call, device_tier, lower_tiers. Then what is less usual:
overflow_table (rows changed below the device), tier_sizes and shared_budget (how many rows a tier holds), tier_snapshot,
replacing and walk (all rows out and in), disk_handle and disk_place (when and where the disk is opened).
"""
