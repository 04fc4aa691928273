"""A table larger than its device: rows move between the device, host memory and disk, and nothing else changes."""
