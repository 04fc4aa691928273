"""All features of a model, step by step over all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from recis_core.compat.recis.absent import refuse_name
from recis_core.compat.recis.features.feature import Feature
from recis_core.compat.recis.features.fused_op_impl import FusedOpFactory


class FeatureEngine(nn.Module):
    """{feature: result}. Step k of all features runs before step k + 1; ops of one class in a step are one call.

    Unlike in RecIS, no op changes its input, so that features of one field do not see each other's results.

    Raises:
      ValueError: two unlike features have one name, or an engine has a feature already.

    As recis.features.feature_engine.FeatureEngine.
    """

    def __init__(self, feature_list: Sequence[Feature]) -> None:
        super().__init__()
        named: dict[str, Feature] = {}
        for feature in feature_list:
            first = named.setdefault(feature.name, feature)
            if first is not feature and first.get_hash() != feature.get_hash():
                raise ValueError(f"two features are named {feature.name!r}, with other ops.")
            if feature.compiled:
                raise ValueError(f"feature {feature.name!r} belongs to another engine. Make a Feature for each.")
        for feature in feature_list:
            feature.compiled_(True)
        self._features = nn.ModuleList(named.values())

    def forward(self, data: dict[str, Any], remain_no_use_data: bool = True) -> dict[str, Any]:
        """The features of a batch; with remain_no_use_data also the inputs that no feature is named after.

        Raises:
          TypeError: data is no dict. KeyError: a field is missing.
        """
        if not isinstance(data, dict):
            raise TypeError(f"data must be a dict of fields; got {type(data).__name__}.")
        features: list[Any] = list(self._features)
        results = {feature.name: data for feature in features}
        for step in range(max((len(feature.ops) for feature in features), default=0)):
            self._run(step, [feature for feature in features if step < len(feature.ops)], results)
        left = {name: value for name, value in data.items() if name not in results} if remain_no_use_data else {}
        return {**results, **left}

    @staticmethod
    def _run(step: int, features: list[Any], results: dict[str, Any]) -> None:
        """One step of these features, in place of their results."""
        fused: dict[type, list[Any]] = {}
        for feature in features:
            op = feature.ops[step]
            if FusedOpFactory.contains(op):
                fused.setdefault(type(op), []).append(feature)
            else:
                results[feature.name] = op(results[feature.name])
        for group in fused.values():
            ops = [feature.ops[step] for feature in group]
            made = FusedOpFactory.get_fused_op(ops[0])(ops).process([results[feature.name] for feature in group])
            results.update(zip([feature.name for feature in group], made, strict=True))


def __getattr__(name: str) -> Any:
    return refuse_name(__name__, name)
