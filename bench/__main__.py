"""python -m bench COMMAND [--help]: the commands stand in USAGE."""

from __future__ import annotations

import os
import sys

USAGE = """usage: python -m bench COMMAND ...

  step    lookup + pool + backward + update of one batch, each backend beside torch's EmbeddingBag
  planning a forward of many features: reading, planning, and all of it, beside an EmbeddingBag a feature
  features each op of features, and a click log's columns, beside pandas, Arrow and plain torch
  jax     a step of recis_core.jax beside flax's nn.Embed under optax.adam
  kernels each Pallas kernel beside the machine's bandwidth, XLA's form of it and torch's
  bridge  one crossing between torch and JAX, beside plain torch
  exchange bytes, AUC and step time of each codec between ranks, beside plain torch.distributed
  cache   hit rates and step times of tables in tiers, beside Belady's optimum and tables in memory
  text_hashing  text to 64-bit hashes, beside pandas, polars and xxhash in a loop
  metrics rows a second and memory of metrics of a stream, beside torchmetrics
  io      rows a second from files to tensors, beside pyarrow with torch.utils.data, and pyarrow's scanner alone
  trainer  a Trainer beside a loop by hand, and each of its hooks beside none
  checkpoint  saves, loads, stalls, deltas and memory, beside torch.distributed.checkpoint and the disk
  models  the figure that each model reaches, beside the truth's and a peer's
  hstu    HSTU's layers by lengths of sequences, time and memory, beside padding
  movielens  SASRec and HSTU on MovieLens-100k, beside SASRec in plain torch (research use; needs recbole installed)
  llm     a decoder over our tables beside nn.Embedding: tokens a second, memory, the sparse side's share
  table   rows of a step that were written to a file, as a Markdown table

Each has --help."""


def main(argv: list[str]) -> int:
    # Two OpenMP pools that spin would take the cores from each other.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    command, rest = (argv[0], argv[1:]) if argv else ("--help", [])
    if command == "step":
        from recis_core.bench.step import run

        return run(rest)
    if command == "planning":
        from recis_core.bench.planning import run as run_planning

        return run_planning(rest)
    if command == "features":
        from recis_core.bench.features.run import run as run_features

        return run_features(rest)
    if command == "jax":
        from recis_core.bench.jax_step import run as run_jax

        return run_jax(rest)
    if command == "kernels":
        from recis_core.bench.kernels import run as run_kernels

        return run_kernels(rest)
    if command == "bridge":
        from recis_core.bench.bridge import run as run_bridge

        return run_bridge(rest)
    if command == "exchange":
        from recis_core.bench.exchange.run import run as run_exchange

        return run_exchange(rest)
    if command == "cache":
        from recis_core.bench.cache.run import run as run_cache

        return run_cache(rest)
    if command == "text_hashing":
        from recis_core.bench.text_hashing import run as run_text_hashing

        return run_text_hashing(rest)
    if command == "metrics":
        from recis_core.bench.metrics import run as run_metrics

        return run_metrics(rest)
    if command == "io":
        from recis_core.bench.reading import run as run_reading

        return run_reading(rest)
    if command == "trainer":
        from recis_core.bench.trainer import run as run_trainer

        return run_trainer(rest)
    if command == "checkpoint":
        from recis_core.bench.checkpoint import run as run_checkpoint

        return run_checkpoint(rest)
    if command == "models":
        from recis_core.bench.quality.run import run as run_models

        return run_models(rest)
    if command == "hstu":
        from recis_core.bench.hstu import run as run_hstu

        return run_hstu(rest)
    if command == "movielens":
        from recis_core.bench.movielens.run import run as run_movielens

        return run_movielens(rest)
    if command == "llm":
        from recis_core.bench.llm.run import run as run_llm

        return run_llm(rest)
    if command == "table":
        from recis_core.bench.table import run as run_table

        return run_table(rest)
    print(USAGE)
    return 0 if command in ("-h", "--help") else 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
