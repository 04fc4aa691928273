"""python -m tests.gpu.machine ROWS: what machine this is, as a row; fails where JAX or Pallas does not see its GPU."""

from __future__ import annotations

import sys

import jax
import torch

from recis_core import backends
from recis_core.bench import rows
from recis_core.bench.provenance import provenance


def main(path: str) -> int:
    seen = {
        "gpus": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "jax_devices": [str(d) for d in jax.devices()],
    }
    found = [{"bench": "machine", **seen, "backends": backends.describe(), **provenance(0)}]
    rows.write(found, path)
    print(found[0])
    return 0 if jax.default_backend() == "gpu" and backends.describe()["pallas"] == "runs here" else 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
