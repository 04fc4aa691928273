"""python -m bench exchange: bytes, quality and time of each codec."""
