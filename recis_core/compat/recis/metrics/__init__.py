"""Metrics that models hold as modules."""
