"""The flags of a model: which one, and which ids its tables hold."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from recis_core.cli.flags import named, naming_flag, plain_errors
from recis_core.models import DLRM, DeepFM
from recis_core.options.admit_hook import AdmitHook
from recis_core.options.filter_hook import FilterHook


class Inputs(Protocol):
    """fields: names of sparse features. dense: number of dense columns."""

    fields: list[str]
    dense: int


@plain_errors
@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The model."""

    name: Annotated[Literal["deepfm", "dlrm"], named("model")] = "deepfm"
    """DeepFM, or DLRM with dot interaction."""
    dim: Annotated[int, Field(ge=1)] = 16
    """Columns of an embedding."""

    def build(self, inputs: Inputs, **options: Any) -> nn.Module:
        """options: of its tables."""
        model = {"deepfm": DeepFM, "dlrm": DLRM}[self.name]
        return model(inputs.fields, self.dim, dense=inputs.dense, **options)


@plain_errors
@dataclass(frozen=True, kw_only=True)
class HookFlags:
    """Which ids have a row."""

    admit: str | None = None
    """Which new ids get a row: frequency(5), frequency(5,counter=bloom,bytes=1e8), probability(.1), readonly.
    Default: each."""
    evict: str | None = None
    """Which rows go: step(1000), not used for so many steps; ttl(3600), for so many seconds; lru(1e6), lfu(1e6),
    rows a table keeps; norm(1e-4), weights' norm below. Default: none."""
    evict_every: Annotated[int, Field(ge=1)] = 100
    """With --evict: steps between evictions."""

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> dict[str, Any]:
        """Options of tables."""
        with naming_flag("admit", self.admit, "admit_hook"):
            admit = AdmitHook.of(self.admit)
        with naming_flag("evict", self.evict, "filter_hook"):
            return {"admit_hook": admit, "filter_hook": FilterHook.of(self.evict)}

    @property
    def steps_between(self) -> int | None:
        """Evictions; None where there are none."""
        return None if self.evict is None else self.evict_every
