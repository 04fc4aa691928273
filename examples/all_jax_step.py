"""One training step as one JAX program: tables, a tower written in PyTorch, optax, and the tables' update.

    python examples/all_jax_step.py --steps 200

torch2jax brings the tower in. The state is donated, so that tables are written in place. At the end the tables move into an
engine of the torch side, which gives the same rows.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import torch

from recis_core.bridge import torch_module_to_jax
from recis_core.io import SyntheticClicks
from recis_core.jax import (
    AdamW,
    TableConfig,
    counts,
    create,
    find,
    lookup,
    padded,
    pool,
    reserve,
    to_table,
    update,
    words,
)
from recis_core.metrics import AUROC
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.optim import SparseAdamW

DIM = 8
DENSE = optax.adam(3e-3)


class Model:
    """Tables of some fields, and a tower of Linear and ReLU over the mean of each field's rows."""

    def __init__(self, fields: list[str]) -> None:
        self.fields = fields
        self.tower, weights = torch_module_to_jax(
            torch.nn.Sequential(torch.nn.Linear(len(fields) * DIM, 32), torch.nn.ReLU(), torch.nn.Linear(32, 1)),
            example=[torch.randn(4, len(fields) * DIM)],
        )
        # From torch they come bound to their device, and what is bound is another program to jit than what is not.
        self.weights = {name: jnp.array(np.asarray(value)) for name, value in weights.items()}
        self.state = create(TableConfig(tuple(fields), DIM, AdamW(lr=1e-2, weight_decay=1e-3)))
        self.moments = DENSE.init(self.weights)
        self.step = jax.jit(self._step, donate_argnums=(0, 1, 2))
        self.logits = jax.jit(lambda state, weights, x: self._logits(find(state, x["ids"], x["real"]), weights, x))

    def _logits(self, rows: Any, weights: Any, x: Any) -> jax.Array:
        means = [pool(rows[name], x["offsets"][name], combiner="mean") for name in self.fields]
        return self.tower(weights, jnp.concatenate(means, 1))[:, 0]

    def _step(self, state: Any, weights: Any, moments: Any, x: Any) -> Any:
        state, rows, ticket = lookup(state, x["ids"], x["real"])

        def loss_of(rows: Any, weights: Any) -> jax.Array:
            return optax.sigmoid_binary_cross_entropy(self._logits(rows, weights, x), x["label"]).mean()

        loss, (to_rows, to_weights) = jax.value_and_grad(loss_of, (0, 1))(rows, weights)
        changes, moments = DENSE.update(to_weights, moments)
        return update(state, ticket, to_rows), optax.apply_updates(weights, changes), moments, loss

    def train(self, x: Any) -> float:
        self.state = reserve(self.state, sum(len(real) for real in x["real"].values()))
        self.state, self.weights, self.moments, loss = self.step(self.state, self.weights, self.moments, x)
        return float(loss)


def arrays(batch: dict[str, Any], lengths: dict[str, int]) -> dict[str, Any]:
    """A reader's batch as arrays of one size each: ids as words, padded to `lengths` a row."""
    rows = len(batch["label"])
    split = {name: padded(batch[name].values(), rows * most) for name, most in lengths.items()}
    return {
        "ids": {name: ids for name, (ids, _) in split.items()},
        "real": {name: real for name, (_, real) in split.items()},
        "offsets": {name: batch[name].offsets()[-1].numpy().astype(np.int32) for name in lengths},
        "label": batch["label"].numpy(),
    }


def moved(model: Model) -> tuple[EmbeddingEngine, SparseAdamW]:
    """An engine of PyTorch with the model's rows, and its optimizer, to go on there."""
    engine = EmbeddingEngine({name: EmbeddingOption(DIM) for name in model.fields})
    optimizer = SparseAdamW(engine.sparse_parameters(), lr=1e-2)  # its slots and t move, too
    to_table(model.state, engine.sparse_parameters()[model.fields[0]])
    return engine, optimizer


def main(steps: int, batch_size: int) -> None:
    torch.manual_seed(0)
    log = SyntheticClicks("tiny")
    lengths = {field.name: field.max_length for field in log.preset.fields}
    model, auc, prepared = Model(list(lengths)), AUROC(), partial(arrays, lengths=lengths)
    losses = [model.train(prepared(batch)) for batch in log.dataset(batch_size, stop=steps * batch_size)]
    for batch in log.dataset(batch_size, start=steps * batch_size, stop=(steps + 20) * batch_size):
        logits = model.logits(model.state, model.weights, prepared(batch))
        auc.update(torch.tensor(np.asarray(logits)).sigmoid(), batch["label"])

    some = next(iter(log.dataset(64, stop=64)))["item"].values()
    there = moved(model)[0].eval().sparse_parameters()["item"](some).detach().numpy()
    same = np.array_equal(there, find(model.state, {"item": words(some)})["item"])
    rows, compiled = counts(model.state).rows, model.step._cache_size()
    first, last = np.mean(losses[:10]), np.mean(losses[-10:])
    print(f"the same rows in torch: {same}; the step was compiled {compiled} times")
    print(f"{steps} steps, loss {first:.4f} to {last:.4f}, {rows:,} rows, test AUC {auc.compute():.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch-size", type=int, default=256)
    main(**vars(parser.parse_args()))
