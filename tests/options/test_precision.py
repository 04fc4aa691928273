"""Precision: what its texts mean, that they print back, and what the adaptive chooser does."""

import math

import pytest

from recis_core.backends.spec import CODEC_IDS, RowCodec
from recis_core.options.precision import PATIENCE, RETRY, Adaptive, Auto, Codec, Direction, Piece, Precision

TEXTS = (
    "fp32", "bf16+sr", "int8+ef", "int4+sr+ef", "sign", "lossless",
    "fp32@1000,int8", "fp32@10,bf16@20,int8+sr@30,int4+sr+ef", "auto(0.01,int4|int8|bf16)", "auto(0.05,int4|int8|fp32)+sr+ef",
    "fp32@1000,auto(0.01,int4|int8|bf16|fp32)",
    "forward=int8,backward=int4+ef", "forward=fp32@1000,int8,backward=topk(0.1,int8)+sr+ef",
    "forward=fp32,backward=topk(0.333,fp32)+ef@5,topk(0.01,int8)+ef",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts_print_back(text: str) -> None:
    precision = Precision.parse(text)
    assert str(precision) == text
    assert Precision.parse(str(precision)) == precision
    assert hash(Precision.parse(text)) == hash(precision)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (" int8 , ", None),
        ("forward=int8", "forward=int8,backward=fp32"),
        ("backward=int4+ef, forward=bf16", "forward=bf16,backward=int4+ef"),
        ("backward=int4@5,int8,forward=bf16", "forward=bf16,backward=int4@5,int8"),
        ("int4+ef+sr", "int4+sr+ef"),
        ("auto(1%)", "auto(0.01,int4|int8|bf16|fp32)"),
        ("backward=topk(10%,int8)", "forward=fp32,backward=topk(0.1,int8)"),
        ("forward=int8,backward=int8", "int8"),
    ],
)
def test_other_spellings(text: str, same: str | None) -> None:
    if same is None:
        with pytest.raises(ValueError, match="got ''"):
            Precision.parse(text)
        return
    assert str(Precision.parse(text)) == same


@pytest.mark.parametrize("kind", CODEC_IDS)
def test_every_kind(kind: str) -> None:
    assert Precision.parse(kind).forward.at(0) == Codec(RowCodec(kind))


def test_both_ways_and_apart() -> None:
    both = Precision.parse("int8+ef")
    assert both.forward == both.backward == Direction((Piece(Codec(RowCodec("int8"), None, True)),))
    apart = Precision.parse("forward=bf16,backward=topk(10%,int4)+sr+ef")
    assert apart.forward.at(7) == Codec(RowCodec("bf16"))
    assert apart.backward.at(7) == Codec(RowCodec("int4", stochastic=True), 0.1, True)
    assert (apart.forward.error_feedback, apart.backward.error_feedback) == (False, True)


def test_of() -> None:
    assert Precision.of(None) == Precision() == Precision.parse("fp32")
    assert Precision.of("int8") == Precision.parse("int8")
    assert Precision.of(Precision.parse("int8")) == Precision.parse("int8")
    assert Precision("int8", "int4+ef") == Precision.parse("forward=int8,backward=int4+ef")
    with pytest.raises(TypeError, match="its text or None; got int"):
        Precision.of(8)


def test_schedule() -> None:
    direction = Precision.parse("fp32@1000,bf16@5000,int8").forward
    kinds = {step: direction.at(step).row.kind for step in (0, 999, 1000, 4999, 5000, 10**9)}
    assert kinds == {0: "fp32", 999: "fp32", 1000: "bf16", 4999: "bf16", 5000: "int8", 10**9: "int8"}
    with pytest.raises(ValueError, match="step must be at least 0"):
        direction.at(-1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a codec is one of fp32, bf16"),
        ("int2", "a codec is one of fp32, bf16, fp16, fp8, int8, int4, sign, lossless"),
        ("int8+xx", r"\+sr \(stochastic rounding\) and \+ef"),
        ("int8+ef+ef", "once"),
        ("fp32+sr", "fp32 rows are not rounded"),
        ("topk(0.1,int8)", "topk is for gradients"),
        ("forward=topk(0.1,int8)", "topk is for gradients"),
        ("backward=topk(0,int8)", r"top must be a share of rows in \(0, 1\]; got 0.0"),
        ("backward=topk(110%,int8)", r"\(0, 1\]"),
        ("backward=topk(x,int8)", "a share is a number as 0.1 or 10%; got 'x'"),
        ("backward=topk(nan,int8)", r"\(0, 1\]"),
        ("backward=topk(0.1)", "a codec is one of"),
        ("int8,backward=int4", "give one precision for both ways"),
        ("forward=int8,forward=int4", "forward is given twice"),
        ("fp32@1000", "every piece but the last must end at a step"),
        ("fp32,int8", "every piece but the last must end at a step"),
        ("fp32@1000,bf16@1000,int8", "steps must ascend"),
        ("fp32@0,int8", "steps must ascend"),
        ("fp32@-3,int8", "a piece ends at a step, as in fp32@1000"),
        ("fp32@1e3,int8", "a piece ends at a step"),
        ("auto(0)", "bound must be a positive number"),
        ("auto(inf)", "bound must be a positive number"),
        ("auto(0.1,int8|int4)", "candidates must be distinct, the smallest first"),
        ("auto(0.1,int8|int8)", "distinct"),
        ("auto(0.1,topk(0.1,int8))", "a codec is one of"),
    ],
)
def test_what_raises(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Precision.parse(text)


def test_sums_are_fp32() -> None:
    with pytest.raises(ValueError, match="accumulate must be fp32"):
        Precision(accumulate="bf16")


def chooser(text: str = "auto(0.01,int4|int8|fp32)") -> Adaptive:
    return Precision.parse(text).forward.adaptive()


def feed(chooser: Adaptive, errors: dict[str, float], count: int) -> list[str]:
    """The kinds used, each observed with its error."""
    used = []
    for _ in range(count):
        used.append(chooser.codec.row.kind)
        chooser.observe(errors[used[-1]])
    return used


def test_adaptive_goes_down_to_the_smallest_that_keeps_the_bound() -> None:
    used = feed(adaptive := chooser(), {"int4": 0.08, "int8": 0.005, "fp32": 0.0}, RETRY)
    assert used[: 2 * PATIENCE + 2] == ["fp32"] * PATIENCE + ["int8"] * PATIENCE + ["int4"] + ["int8"]
    assert adaptive.codec.row.kind == "int8"
    assert used.count("int4") == 1  # what failed is let alone for a while


def test_adaptive_tries_again_and_goes_up() -> None:
    adaptive = chooser()
    feed(adaptive, {"int4": 0.08, "int8": 0.005, "fp32": 0.0}, 3 * PATIENCE)
    used = feed(adaptive, {"int4": 0.001, "int8": 0.005, "fp32": 0.0}, RETRY)
    assert used[-1] == "int4"
    assert feed(adaptive, {"int4": 1.0, "int8": 1.0, "fp32": 0.0}, 3) == ["int4", "int8", "fp32"]


def test_one_error_in_many_is_smoothed() -> None:
    adaptive = chooser()
    feed(adaptive, {"int4": 0.08, "int8": 0.005, "fp32": 0.0}, 3 * PATIENCE)
    adaptive.observe(0.03)
    assert adaptive.codec.row.kind == "int8"
    adaptive.observe(0.2)
    assert adaptive.codec.row.kind == "fp32"


@pytest.mark.parametrize("error", [math.nan, math.inf])
def test_errors_that_are_not_finite_are_too_large(error: float) -> None:
    adaptive = chooser()
    feed(adaptive, {"int4": 0.08, "int8": 0.005, "fp32": 0.0}, PATIENCE + 1)
    adaptive.observe(error)
    assert adaptive.codec.row.kind == "fp32"
    feed(adaptive, {"int4": 0.001, "int8": 0.001, "fp32": 0.0}, RETRY + PATIENCE)  # and are forgotten
    assert adaptive.codec.row.kind == "int4"


def test_equal_errors_choose_equally_and_state_resumes() -> None:
    errors = {"int4": 0.02, "int8": 0.011, "fp32": 0.0}
    one, other = chooser(), chooser()
    assert feed(one, errors, 25) == feed(other, errors, 25)
    resumed = chooser()
    resumed.load_state_dict(one.state_dict())
    assert feed(resumed, errors, 2000) == feed(other, errors, 2000)
    with pytest.raises(ValueError, match="other candidates"):
        chooser("auto(0.01,int8|fp32)").load_state_dict(one.state_dict())


def test_direction_asks_its_chooser() -> None:
    direction = Precision.parse("bf16@10,auto(0.01,int4|int8|fp32)+ef").forward
    adaptive = direction.adaptive()
    feed(adaptive, {"int4": 0.001, "int8": 0.001, "fp32": 0.0}, 2 * PATIENCE)
    assert direction.at(9, adaptive).row.kind == "bf16"
    assert direction.at(10, adaptive) == Codec(RowCodec("int4"), None, True)
    assert direction.at(10).row.kind == "fp32"  # nothing measured yet
    assert direction.error_feedback
    assert Precision.parse("int8").forward.adaptive() is None
    with pytest.raises(ValueError, match="one piece may choose by error"):
        Precision.parse("auto(0.1)@5,auto(0.01)").forward.adaptive()


def test_candidates_differ_in_kind_alone() -> None:
    with pytest.raises(ValueError, match="differ in their kind alone"):
        Auto(0.1, (Codec(RowCodec("int4")), Codec(RowCodec("int8"), None, True)))
