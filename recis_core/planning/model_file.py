"""What `recis plan` reads: the tables of a model, how they are used, and the machines' links."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from recis_core.options.sharding import Sharding
from recis_core.options.yaml_file import read_yaml
from recis_core.planning.quantity import Bytes, Count

Codec = Literal["fp32", "bf16", "fp16", "fp8", "int8", "int4", "sign", "lossless"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
CHECKED = ConfigDict(extra="forbid", strict=True)


def _known_sharding(text: str) -> str:
    """As Sharding's text, or "table" alone, which leaves the owner to the planner."""
    return text if text == "table" else str(Sharding.parse(text))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Precision:
    """Codecs on the wire."""

    forward: Codec = "fp32"
    backward: Codec = "fp32"
    topk: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a step's gradient rows that are sent."""
    ids: Literal["packed", "int64"] = "packed"
    forward_residual: bool = False
    """Error feedback forward: the owner keeps a float32 residual beside each row."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Links:
    """What one rank can send, and at the same time receive, in gigabytes a second."""

    intra_node_gb_per_s: Positive = 450.0
    inter_node_gb_per_s: Positive = 50.0
    ranks_per_node: Annotated[int, Field(ge=1)] = 8


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Measured:
    """Ids of a feature counted in some batch, and how many of them differ: the skew is fitted to that."""

    ids: Annotated[Count, Field(ge=2)]
    unique: Annotated[Count, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Feature:
    """How a feature draws on its table: the id of rank r (from 1) with probability ∝ (r + shift)^-skew."""

    pooling_factor: Positive
    """Mean ids a sample."""
    name: str | None = None
    skew: Annotated[float | None, Field(ge=0, le=10)] = None
    """Zipf's exponent; default: fitted to `measured`, else 1.05."""
    shift: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Mandelbrot's shift, which flattens the head."""
    hot: Share = 0.0
    """Share of ids that are the hottest one, beside the power law."""
    measured: Measured | None = None

    def __post_init__(self) -> None:
        if self.skew is not None and self.measured is not None:
            raise ValueError("give skew or measured, one of the two.")
        if self.measured is not None and self.measured.unique > self.measured.ids:
            raise ValueError(f"unique must be at most ids = {self.measured.ids}; got {self.measured.unique}.")


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class TableSize:
    """One logical table."""

    name: Annotated[str, Field(min_length=1)]
    rows: Annotated[Count, Field(ge=1, le=10**15)]
    dim: Annotated[Count, Field(ge=1)]
    features: Annotated[tuple[Feature, ...], Field(min_length=1)]
    dtype: Literal["float32", "bfloat16"] = "float32"
    optimizer: Literal["sgd", "adam", "adamw", "adamwtf", "adagrad", "rowwise_adagrad"] = "adam"
    sharding: Annotated[str | None, AfterValidator(lambda text: text and _known_sharding(text))] = None
    """Fixed, in Sharding's text form; "table" alone leaves the owner open. None: the planner's choice."""
    precision: Precision | None = None
    """None: the model's."""
    id_bits: Annotated[int, Field(ge=1, le=64)] = 63
    """Ids lie in a range of 2^id_bits values; hashed ids in 63. Fewer pack better."""


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ModelFile:
    """A model, as far as its tables go."""

    tables: Annotated[tuple[TableSize, ...], Field(min_length=1)]
    batch_size: Annotated[Count, Field(ge=1)]
    """Samples a rank takes in one forward."""
    name: str = ""
    accumulate: Annotated[int, Field(ge=1)] = 1
    """Forwards to one optimizer step."""
    precision: Precision = Precision()
    links: Links = Links()
    reserve: Bytes = 0
    """Memory of a rank that is not for tables: the dense side, activations, residuals of backward codecs."""

    def __post_init__(self) -> None:
        names = [table.name for table in self.tables]
        features = [feature.name for table in self.tables for feature in table.features if feature.name]
        for what, given in (("tables", names), ("features", features)):
            twice = [name for place, name in enumerate(given) if name in given[:place]]
            if twice:
                raise ValueError(f"{what} need distinct names; {twice[0]!r} is there twice.")

    @property
    def parameters(self) -> int:
        return sum(table.rows * table.dim for table in self.tables)


def read_model(path: str | Path) -> ModelFile:
    """The model of a YAML file. Its key `defaults` gives what tables do not say themselves.

    Raises:
      ValueError: what is wrong, each with its place in the file. FileNotFoundError: no file.
    """
    tree = _with_defaults(path, read_yaml(path))
    try:
        # Through JSON: there a strict check takes lists as tuples, and mappings as dataclasses.
        return TypeAdapter(ModelFile).validate_json(json.dumps(tree, default=str), strict=True)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        found = [_in_words(each) for each in errors if not _follows(each, errors)]
        raise ValueError("\n  ".join([f"{path} does not describe a model:", *found])) from None


def _with_defaults(path: str | Path, tree: Any) -> Any:
    if not isinstance(tree, dict):
        raise ValueError(f"{path} must hold a mapping with batch_size and tables; got {type(tree).__name__}.")
    defaults, tables = tree.pop("defaults", {}), tree.get("tables")
    if not isinstance(defaults, dict) or {"name", "rows"} & set(defaults):
        raise ValueError(f"{path}: defaults: wanted a mapping of table keys other than name and rows.")
    if isinstance(tables, list):
        tree["tables"] = [defaults | table if isinstance(table, dict) else table for table in tables]
    return tree


def _follows(error: Any, errors: list[Any]) -> bool:
    """Whether a list is called too short only because its elements are wrong."""
    place = error["loc"]
    inside = (other["loc"] for other in errors if len(other["loc"]) > len(place))
    return error["type"] == "too_short" and any(loc[: len(place)] == place for loc in inside)


def _in_words(error: Any) -> str:
    place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in error["loc"]).lstrip(".")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "unexpected_keyword_argument":
        return f"{place}: there is no such key."
    if error["type"] == "missing":
        return f"{place}: is missing."
    got = error["input"]
    shown = "" if "got" in message or isinstance(got, dict | list) else f"; got {got!r}"
    return f"{place or 'the file'}: {message.rstrip('.')}{shown}."
