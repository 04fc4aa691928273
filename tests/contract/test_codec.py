"""encode and decode: on every backend the reference's bytes, of every kind, and what is left, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recis_core.backends import EncodedRows, RowCodec, RowNoise
from recis_core.backends.initial_values import rounding_noise, wire_noise
from recis_core.backends.spec import CODEC_IDS
from tests.contract.compare import assert_same
from tests.contract.recorded import Recorded
from tests.contract.row_cases import CASES, Rows, case
from tests.reference import codec as reference

SEED = 0x1234_5678_9ABC_DEF0
PLAIN = [RowCodec(kind) for kind in CODEC_IDS]
NOISY = [RowCodec(kind, stochastic=True) for kind in CODEC_IDS if kind not in ("fp32", "lossless")]
CODECS = [*PLAIN, *NOISY]


def name(codec: RowCodec) -> str:
    return codec.kind + "+sr" * codec.stochastic


def keys(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """uids and ids int64 [count]: negative ones and the extremes among them."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(np.iinfo(np.int64).min, np.iinfo(np.int64).max, count)
    ids[:3] = [np.iinfo(np.int64).min, -1, np.iinfo(np.int64).max][:count]
    return rng.integers(0, 1 << 32, count), ids


def make_noise(codec: RowCodec, count: int, t: int = 3) -> RowNoise | None:
    if not codec.stochastic:
        return None
    uids, ids = keys(count)
    return RowNoise(SEED, torch.from_numpy(uids), torch.from_numpy(ids), t)


def reference_of(rows: Rows, codec: RowCodec, *, with_residual: bool, t: int = 3) -> reference.Rows:
    uids, ids = keys(len(rows.values))
    word = wire_noise(SEED, uids.astype(np.uint32), ids, rows.values.shape[1], t) if codec.stochastic else None
    return reference.encode(rows.values, rows.residual if with_residual else None, codec.kind, word)


def encoded(backend: Recorded, rows: Rows, codec: RowCodec, *, with_residual: bool, t: int = 3) -> EncodedRows:
    residual = torch.from_numpy(rows.residual) if with_residual else None
    noise = make_noise(codec, len(rows.values), t)
    return backend.encode(torch.from_numpy(rows.values), residual, codec=codec, noise=noise)


@pytest.mark.parametrize("with_residual", [False, True], ids=["alone", "residual"])
@pytest.mark.parametrize("rows", CASES, ids=str)
@pytest.mark.parametrize("codec", CODECS, ids=name)
def test_bytes(backend: Recorded, codec: RowCodec, rows: Rows, with_residual: bool) -> None:
    got = encoded(backend, rows, codec, with_residual=with_residual)
    want = reference_of(rows, codec, with_residual=with_residual)
    assert got.codes.shape == (len(rows.values), codec.row_bytes(rows.values.shape[1]))
    assert_same("codes", got.codes, torch.from_numpy(want.codes))
    assert_same("exact", got.exact, torch.from_numpy(want.exact))
    assert_same("exact_rows", got.exact_rows, torch.from_numpy(want.exact_rows))
    assert got.clamped == want.clamped
    assert (got.left is None) == (not with_residual)
    if got.left is not None:
        assert_same("left", got.left, torch.from_numpy(want.left))
    assert (got.tail is None) == (got.tail_lengths is None) == (codec.kind != "lossless")
    if got.tail is not None:
        assert_same("tail", got.tail, torch.from_numpy(want.tail))
        assert_same("tail_lengths", got.tail_lengths, torch.from_numpy(want.tail_lengths))
    back = backend.decode(got.codes, codec=codec, dim=rows.values.shape[1], tail=got.tail)
    assert_same("decoded", back, torch.from_numpy(want.decoded))


@pytest.mark.parametrize("codec", CODECS, ids=name)
def test_nothing_is_lost_over_time(backend: Recorded, codec: RowCodec) -> None:
    """Σ sent + residual = Σ true, but for the roundings of the sums values + residual themselves."""
    rng = np.random.default_rng(5)
    residual, sent, true = torch.zeros(6, 16), torch.zeros(6, 16, dtype=torch.float64), torch.zeros(6, 16).double()
    for t in range(20):
        values = torch.from_numpy(rng.standard_normal((6, 16)).astype(np.float32))
        got = backend.encode(values, residual, codec=codec, noise=make_noise(codec, 6, t))
        x = (values + residual).double()
        now = backend.decode(got.codes, codec=codec, dim=16, tail=got.tail).double()
        if codec.kind != "sign" and not codec.stochastic:  # x minus a number far from it may need more bits
            assert torch.equal(now + got.left.double(), x)
        sent, true, residual = sent + now, true + values.double(), got.left
    size = float(residual.abs().max()) + 4
    assert float((sent + residual.double() - true).abs().max()) <= 20 * size * 2.0**-24


@pytest.mark.parametrize("codec", NOISY, ids=name)
def test_noise_is_unbiased_and_repeats(backend: Recorded, codec: RowCodec) -> None:
    """Over keys and steps the mean comes to x: within five standard errors of a rounding to either neighbour."""
    dim, rows = 8, 500
    x = np.array([0.3, -0.017, 1.0, 0.111, -0.77, 2e-3, 0.5, -0.9], np.float32)
    values = Rows("alike", np.repeat(x[None], rows, 0), np.zeros((rows, dim), np.float32))
    decoded = []
    for t in range(4):
        got, again = (encoded(backend, values, codec, with_residual=False, t=t) for _ in range(2))
        assert_same("codes", got.codes, again.codes)
        decoded.append(backend.decode(got.codes, codec=codec, dim=dim).double().numpy())
    decoded = np.concatenate(decoded)
    assert len(np.unique(decoded[:, 1])) == 2
    if codec.kind == "sign":  # columns of more than the mean are cut off there
        scale = np.abs(decoded[0, 0])
        x = np.clip(x, -scale, scale)
    error = 5 * decoded.std(0) / np.sqrt(len(decoded)) + 1e-6
    assert (np.abs(decoded.mean(0) - x) <= error).all(), (decoded.mean(0), x, error)


def test_small_numbers_round_without_bias(backend: Recorded) -> None:
    """Among float16's subnormals, and below all of them."""
    x = np.array([3.1e-8, 6.1e-5, 1e-7, 5.9e-6], np.float32)
    values = Rows("small", np.repeat(x[None], 4000, 0), np.zeros((4000, 4), np.float32))
    got = encoded(backend, values, RowCodec("fp16", stochastic=True), with_residual=False)
    decoded = backend.decode(got.codes, codec=RowCodec("fp16"), dim=4).double().numpy()
    assert (np.abs(decoded.mean(0) - x) <= 5 * decoded.std(0) / np.sqrt(4000)).all()


def test_noise_is_not_the_optimizers() -> None:
    uids, ids = keys(50)
    wire = wire_noise(SEED, uids.astype(np.uint32), ids, 8, 3)
    assert (wire & 0xFFFF != rounding_noise(SEED, uids.astype(np.uint32), ids, 8, 3)).mean() > 0.99


@pytest.mark.parametrize("codec", PLAIN, ids=name)
def test_rows_may_be_picked(backend: Recorded, codec: RowCodec) -> None:
    """All of a row's bytes lie together."""
    rows = case("dim_7")
    got, pick = encoded(backend, rows, codec, with_residual=False), torch.tensor([13, 2, 7])
    tail = None
    if got.tail is not None:
        parts = got.tail.split(got.tail_lengths.tolist())
        tail = torch.cat([parts[i] for i in pick])
    whole = backend.decode(got.codes, codec=codec, dim=7, tail=got.tail)
    assert_same("picked", backend.decode(got.codes[pick], codec=codec, dim=7, tail=tail), whole[pick])


def test_every_code_of_8_bits_reads(backend: Recorded) -> None:
    codes = np.arange(256, dtype=np.uint8)
    numbers = {"int8": codes.view(np.int8), "fp8": codes.view(reference.FLOATS["fp8"][0])}
    for kind, number in numbers.items():
        want = number.astype(np.float32) * np.float32(0.75)
        sent = np.concatenate([np.float32([0.75]).view(np.uint8), codes[np.isfinite(want)]])
        want = want[np.isfinite(want)]
        got = backend.decode(torch.from_numpy(sent[None]), codec=RowCodec(kind), dim=len(want))
        assert_same(kind, got, torch.from_numpy(want[None]))


def test_every_code_of_16_bits_reads(backend: Recorded) -> None:
    """Finite ones; no other is ever sent."""
    codes = np.arange(1 << 16, dtype=np.uint16)
    for kind in ("fp16", "bf16"):
        want = codes.view(reference.FLOATS[kind][0]).astype(np.float32)
        want, sent = want[np.isfinite(want)], codes[np.isfinite(want)]
        got = backend.decode(torch.from_numpy(sent.view(np.uint8).reshape(-1, 2)), codec=RowCodec(kind), dim=1)
        assert_same(kind, got, torch.from_numpy(want.reshape(-1, 1)))


GOLDEN_ROWS = np.array([[1.0, -0.3, 0.0, 2.5, -1e-3], [-7.0, 5.0, 3.25, 0.1, 448.0]], np.float32)
GOLDEN = {
    "fp32": "0000803f9a9999be00000000000020406f1283ba 0000e0c00000a04000005040cdcccc3d0000e043",
    "bf16": "803f9abe0000204083ba e0c0a0405040cd3de043",
    "fp16": "003ccdb4000000411994 00c700458042662e005f",
    "fp8": "6edbb63b73e5007ea3 0000803fce4a451d7e",
    "int8": "8542a13c33f1007f00 87c36140fe0101007f",
    "int4": "6edbb63ef37000 00008042000007",
    "sign": "789c423f12 0a57b94201",
    "lossless": "80009a002083d971 87e020504d60f60f 0075807b",
    "bf16+sr": "803f99be0000204083ba e0c0a0405040cd3de043",
    "fp16+sr": "003ccdb4000000411994 00c700458042672e005f",
    "fp8+sr": "6edbb63b73e5007ea4 0000803fce4a451d7e",
    "int8+sr": "8542a13c32f1007f00 87c36140fe0101007f",
    "int4+sr": "6edbb63ef27000 00008042000007",
    "sign+sr": "789c423f10 0a57b94209",
}  # fmt: skip


@pytest.mark.parametrize("codec", CODECS, ids=name)
def test_golden_bytes(backend: Recorded, codec: RowCodec) -> None:
    """A wire format: these bytes never change."""
    got = encoded(backend, Rows("golden", GOLDEN_ROWS, 0 * GOLDEN_ROWS), codec, with_residual=False)
    tail = "" if got.tail is None else " " + bytes(got.tail.tolist()).hex()
    assert " ".join(bytes(row).hex() for row in got.codes.tolist()) + tail == GOLDEN[name(codec)]


def test_numbers_of_kinds_never_change() -> None:
    assert CODEC_IDS == {
        "fp32": 0, "bf16": 1, "fp16": 2, "fp8": 3, "int8": 4, "int4": 5, "sign": 6, "lossless": 7,
    }  # fmt: skip
    assert RowCodec("int4").number == 5


def test_lossless_rows_are_shorter() -> None:
    rows = np.random.default_rng(1).standard_normal((200, 64)).astype(np.float32)
    got = reference.encode(rows, None, "lossless", None)
    assert 2 * rows.size / (got.codes.size + got.tail.size) > 1.3


def test_what_raises(backend: Recorded) -> None:
    rows, int8, lossless = torch.ones(3, 8), RowCodec("int8"), RowCodec("lossless")
    with pytest.raises(ValueError, match="kind must be one of fp32, bf16"):
        RowCodec("int2")
    with pytest.raises(ValueError, match="not rounded"):
        RowCodec("lossless", stochastic=True)
    with pytest.raises(TypeError, match="values must be float32"):
        backend.encode(rows.double(), codec=int8)
    with pytest.raises(ValueError, match=r"residual must have shape \[3, 8\]; got \[2, 8\]"):
        backend.encode(rows, rows[:2], codec=int8)
    with pytest.raises(ValueError, match="noise goes with stochastic codecs"):
        backend.encode(rows, codec=RowCodec("int8", stochastic=True))
    ids = torch.zeros(2, dtype=torch.int64)
    with pytest.raises(ValueError, match="noise.uids must be int64"):
        backend.encode(rows, codec=RowCodec("int8", True), noise=RowNoise(1, ids, ids, 1))
    with pytest.raises(ValueError, match=r"codes must be uint8 \[U, 12\]"):
        backend.decode(torch.zeros(3, 11, dtype=torch.uint8), codec=int8, dim=8)
    with pytest.raises(ValueError, match="tail goes with lossless rows"):
        backend.decode(torch.zeros(3, 12, dtype=torch.uint8), codec=lossless, dim=8)
    codes = torch.full((3, lossless.row_bytes(8)), 255, dtype=torch.uint8)
    with pytest.raises(ValueError, match="tail must hold 24 exponents"):
        backend.decode(codes, codec=lossless, dim=8, tail=torch.zeros(23, dtype=torch.uint8))
