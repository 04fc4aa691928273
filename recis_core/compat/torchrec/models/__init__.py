"""TorchRec's models over collections; recis_core.models has more."""
