"""What ranks of a process group agree on, and bytes between them: every collective of the exchange goes through here."""
