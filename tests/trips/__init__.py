"""One training step, recorded call by call: how many of our files a step runs through, and how often it goes from file to file.

    python -m tests.trips                      the table of figures
    python -m tests.trips CASE… [--tree]       those cases alone; --tree: every call, as an indented list
    python -m tests.trips --write              renew the table in docs/architecture.md

cases.py holds the cases, goals.py what each may cost, recording.py what is counted.
"""
