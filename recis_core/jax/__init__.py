"""Embedding tables for programs that are written in JAX."""
