"""The features that `recis train` infers from columns, as an engine: a features.yaml to begin from."""

from __future__ import annotations

from collections.abc import Collection

import torch

from recis_core.features import Feature, FeatureEngine, Normalize, SelectField
from recis_core.io.profile import Profile


def inferred(found: Profile, skip: Collection[str]) -> FeatureEngine:
    """Ids of columns of ids (text is hashed when it is read), and floats as sign(x)·log(1 + |x|); none of weights.

    Raises:
      ValueError: no column is left.
    """
    names = [name for name in found.names if found.role(name) in ("ids", "dense") and name not in skip]
    features = [_feature(name, found.role(name)) for name in names]
    if not features:
        raise ValueError(f"no column is left to be a feature; the files have {', '.join(found.names)}.")
    return FeatureEngine(features)


def _feature(name: str, role: str) -> Feature:
    if role == "ids":
        return Feature(name).add_op(SelectField(name))
    return Feature(name).add_op(SelectField(name, dtype=torch.float32)).add_op(Normalize(log1p=True))
