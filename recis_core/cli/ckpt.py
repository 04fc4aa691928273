"""recis ckpt: look at checkpoints, check and compare them, write them anew, take them from and give them to other formats."""

from __future__ import annotations

from importlib import import_module

from recis_core.cli.subcommand import subcommand

COMMANDS = ("ls", "show", "verify", "diff", "reshard", "compact", "prune", "export", "import")
USAGE = """usage: recis ckpt {ls,show,verify,diff,reshard,compact,prune,export,import} ...

  recis ckpt ls DIR              the checkpoints of a directory: step, kind, rows, bytes, when
  recis ckpt show PATH           tables, parts and origin of one
  recis ckpt verify PATH         read every byte and compare it with its hash
  recis ckpt diff A B            rows and weights in which two differ
  recis ckpt reshard PATH OUT    tables in files of other ranks, shardings or sizes, some of them, or under other names
  recis ckpt compact PATH        a delta and what it is based on, as one full checkpoint
  recis ckpt prune DIR           remove checkpoints but the newest, every n-th, or the best
  recis ckpt export PATH OUT     one table as Parquet, npz or safetensors
  recis ckpt import SOURCE OUT   a checkpoint of RecIS v1, TorchRec, or Parquet of ids and vectors

Each has --help."""


def run(argv: list[str]) -> int:
    asked = subcommand("recis ckpt", COMMANDS, USAGE, argv)
    if isinstance(asked, int):
        return asked
    command, rest = asked
    status: int = import_module(f"recis_core.cli.ckpt_{command}").run(rest)
    return status
