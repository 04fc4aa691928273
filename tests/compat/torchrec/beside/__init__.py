"""Beside TorchRec itself, in an environment of its own: make test-torchrec."""
