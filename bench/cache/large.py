"""Placeholder."""


def large(rows, folder, seed):
    yield from ()
