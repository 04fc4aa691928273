"""What only a machine with a GPU can show, in under twenty minutes: kernels and backends as they run there, and their speed.

    make gpu                          all parts, into gpu-results/
    python -m tests.gpu [PART…] [--out FOLDER]

It needs Python 3.12, jax, torch and our own packages, and installs nothing. A part's log, NAME.log, and rows, NAME.jsonl, are
there as it goes, its line in summary.jsonl when it ends. A part that fails, or is stopped at its budget, holds up no other.

Exit status: 0 all passed; 1 some did not, and the last line names them; 2 there is no GPU, and nothing ran.
"""
