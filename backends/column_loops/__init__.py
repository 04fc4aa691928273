"""Compiled loops over columns: hashes of bytes and the ops of ragged columns. They serve no stage of a backend;
`recis_core.hashing` and `recis_core.ragged` call them, each from the file of the same name.

A call takes many columns: their addresses, and `starts`, where each column's values begin among all values. So N features
of any sizes are one call of one compiled loop, and no column is copied. Whoever calls has checked that columns are
contiguous, and keeps them alive.
"""
