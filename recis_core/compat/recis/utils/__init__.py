"""Logging, arguments, and moving of batches."""
