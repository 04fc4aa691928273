"""Batches, as TorchRec's data sets give them; recis_core.io reads files."""
