"""Fields of a click log, and the named presets."""

from __future__ import annotations

from dataclasses import dataclass

from recis_core.io.synthetic.identity import EXTREMES, KINDS


@dataclass(frozen=True)
class Field:
    """One categorical field of the log.

    Args:
      name: the key in a batch.
      vocabulary: number of values; value 0 is the most frequent one.
      skew: exponent of the power law of frequencies; 0 is uniform.
      max_length: a sample with ids has 1 to max_length, with equal chance. 1: a one-hot field.
      empty: share of samples without any id.
      weighted: whether ids have weights, uniform in [0.5, 1.5).
      hot: share of ids that are value 0; other ids follow the power law.
      drift: new values for each sample. Value `drift * i` is the most frequent at sample i; older values become rarer.
      ids: how values become 64-bit ids, see identity.KINDS.
      strength: factor of what the field adds to the truth; 0 for a field without influence.
    """

    name: str
    vocabulary: int
    skew: float = 1.05
    max_length: int = 1
    empty: float = 0.0
    weighted: bool = False
    hot: float = 0.0
    drift: float = 0.0
    ids: str = "mixed"
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.vocabulary < 1 << 40:
            raise ValueError(f"vocabulary of {self.name} must be in [1, 2**40); got {self.vocabulary}.")
        if not 1 <= self.max_length < 1 << 16:
            raise ValueError(f"max_length of {self.name} must be in [1, 65536); got {self.max_length}.")
        if self.skew < 0 or self.drift < 0:
            raise ValueError(f"skew and drift of {self.name} must be >= 0; got {self.skew} and {self.drift}.")
        if not (0 <= self.empty <= 1 and 0 <= self.hot <= 1):
            raise ValueError(f"empty and hot of {self.name} must be in [0, 1]; got {self.empty} and {self.hot}.")
        if self.ids not in KINDS:
            raise ValueError(f"ids of {self.name} must be one of {', '.join(KINDS)}; got {self.ids!r}.")
        if self.ids == "extremes" and self.vocabulary > len(EXTREMES):
            raise ValueError(f"extremes gives {len(EXTREMES)} ids; got vocabulary {self.vocabulary} for {self.name}.")


@dataclass(frozen=True)
class Preset:
    """A click log: fields, click rate and strength of the truth.

    Args:
      rows: default number of samples; the log has no end.
      click_rate: mean of the true probabilities.
      dim: length of the truth's vectors.
      linear, pair: standard deviations of w and of each <v_f, v_g>, at strength 1.
    """

    name: str
    fields: tuple[Field, ...]
    rows: int
    click_rate: float = 0.25
    dim: int = 4
    linear: float = 0.5
    pair: float = 0.2

    def __post_init__(self) -> None:
        names = [field.name for field in self.fields]
        if not names or len(set(names)) != len(names) or {"label", "p"} & set(names):
            raise ValueError(f"fields need distinct names other than label and p; got {names}.")
        if not 0 < self.click_rate < 1:
            raise ValueError(f"click_rate must be in (0, 1); got {self.click_rate}.")


# Table sizes of MLPerf's DLRM-DCNv2, from the Criteo 1TB click log.
CRITEO_SIZES = (
    40_000_000, 39_060, 17_295, 7_424, 20_265, 3, 7_122, 1_543, 63, 40_000_000, 3_067_956, 405_282, 10, 2_209,
    11_938, 155, 4, 976, 14, 40_000_000, 40_000_000, 40_000_000, 590_152, 12_973, 108, 36,
)  # fmt: skip


def _tiny() -> Preset:
    fields = (
        Field("user", 500),
        Field("item", 300),
        Field("tags", 200, max_length=4, empty=0.1),
        Field("history", 300, max_length=6, empty=0.2, weighted=True),
        Field("country", 20),
    )
    return Preset("tiny", fields, rows=20_000)


def _small() -> Preset:
    """One pass of DeepFM with Adam, lr 1e-3 to 3e-3, comes within 0.01 AUC of Bayes."""
    sizes = {"user": 1_000, "item": 500, "shop": 200, "category": 50, "city": 100, "device": 20, "hour": 24}
    fields = [Field(name, size, skew=1.1) for name, size in sizes.items()]
    tags = Field("tags", 100, skew=1.1, max_length=4, empty=0.1)
    return Preset("small", (*fields, tags), rows=2_500_000, linear=1.0, pair=0.1)


def _criteo_shape() -> Preset:
    fields = tuple(Field(f"c{k + 1}", size) for k, size in enumerate(CRITEO_SIZES))
    return Preset("criteo-shape", fields, rows=4_000_000, click_rate=0.03, linear=0.3, pair=0.05)


def _drift() -> Preset:
    moving = [Field("item", 200_000, skew=1.2, drift=0.05), Field("creative", 50_000, skew=1.2, drift=0.01)]
    return Preset("drift", (*moving, Field("user", 20_000), Field("hour", 24)), rows=1_000_000)


def _adversarial() -> Preset:
    fields = (
        Field("extremes", len(EXTREMES), skew=0.5, ids="extremes"),
        Field("negative", 5_000, ids="negative"),
        Field("low_bits", 5_000, skew=0.5, ids="low_bits"),
        Field("high_bits", 5_000, skew=0.5, ids="high_bits"),
        Field("mostly_empty", 1_000, max_length=8, empty=0.9, weighted=True),
        Field("always_empty", 10, empty=1.0),
        Field("one_id_in_half", 10_000, hot=0.5),
        Field("one_id", 1),
    )
    return Preset("adversarial", fields, rows=100_000)


PRESETS = {preset.name: preset for preset in (_tiny(), _small(), _criteo_shape(), _drift(), _adversarial())}


def named(preset: str | Preset) -> Preset:
    """A preset by name, or the preset itself."""
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, or a Preset; got {preset!r}.")
    return PRESETS[preset]
