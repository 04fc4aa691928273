"""Rows of unequal length."""
