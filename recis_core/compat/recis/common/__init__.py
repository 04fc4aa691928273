"""Classes of which a process has one."""
