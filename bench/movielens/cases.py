"""SASRec and HSTU on MovieLens-100k as cases of `python -m bench models`."""

from __future__ import annotations

from functools import cache, partial

from recis_core.bench.movielens import data
from recis_core.bench.movielens.training import HSTU_, SASREC, TWIN, Found, Hyperparameters, train
from recis_core.bench.quality.case import Case, Trained


@cache
def trained(name: str, given: Hyperparameters, backend: str, seed: int) -> Found:
    """Once in a process, for two models have one peer.

    Raises:
      FileNotFoundError: recbole, which holds the data, is not installed.
    """
    return train(name, given, data.read(data.installed_file()), backend, seed)


def of(given: Hyperparameters, backend: str) -> tuple[Case, ...]:
    """Both models, beside one twin."""

    def train_one(name: str, seed: int) -> Trained:
        found = trained(name, given, backend, seed)
        return Trained(figures={"HR@10": found.hr10, "NDCG@10": found.ndcg10}, seconds=found.wall_s)

    return tuple(
        Case(
            name=name, data="MovieLens-100k, leave-one-out over all items", train=partial(train_one, name),
            peer=partial(train_one, TWIN), peer_name=TWIN, below_peer={"HR@10": 0.01},
        )
        for name in (SASREC, HSTU_)
    )  # fmt: skip


SASREC_CASE, HSTU_CASE = of(Hyperparameters(), "numba")
