"""Ops of ragged columns, each on compiled loops and in plain torch with equal bits. `recis_core.ragged` exports them.

An op takes one column, or a list of columns in one call, and changes no input.
"""
