"""TorchRec's names and meanings, from facts alone."""
