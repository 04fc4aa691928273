"""The disk tier: rows in checksummed segment files."""

from recis_core.table.disk.disk_store import DiskStore

__all__ = ["DiskStore"]
