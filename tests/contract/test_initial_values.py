"""Initial values: golden bits, threefry against jax and Random123, and distributions by scipy.

Sizes: N ids, D dim.
"""

import numpy as np
import pytest
from scipy import stats

from recis_core.backends.initial_values import Distribution, initial_values, rounding_noise, threefry2x32, words

SEED = 0x1234_5678_9ABC_DEF0
UIDS, IDS = np.array([7, 7, 9], np.uint32), np.array([5, -5, 2**62])
N, D = 4_000, 25
KINDS = {
    "normal": Distribution("normal", 0.5, 2.0),
    "uniform": Distribution("uniform", -1.0, 3.0),
    "truncated_normal": Distribution("truncated_normal", 0.0, 1.0, -2.0, 2.0),
    "constant": Distribution("constant", 0.25),
}
GOLDEN = {
    "normal": [0xBF710D41, 0x3EBB8A6E, 0x402F3E73, 0x3FA209C1, 0xBF4E3EE1, 0xBE4C1BD9],
    "uniform": [0xBD6D4E00, 0x3F64B590, 0x401E5294, 0x3FCC5A10, 0x3CE355FF, 0x3EE807C0],
    "truncated_normal": [0xBF2EA61C, 0xBD82AE10, 0x3F859789, 0x3EBABCCC, 0xBF1E6F7D, 0xBEAA90B6],
    "constant": [0x3E800000] * 6,
}
KNOWN_ANSWERS = [  # Random123's kat_vectors, threefry2x32 20 rounds: counter, key, result
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 2, (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


def _sample(kind: str) -> np.ndarray:
    return initial_values(KINDS[kind], SEED, np.full(N, 3, np.uint32), np.arange(N) - N // 2, D)


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN_ANSWERS)
def test_threefry_known_answers(counter: tuple, key: tuple, result: tuple) -> None:
    got = threefry2x32(*(np.array([x], np.uint32) for x in (*key, *counter)))
    assert tuple(int(x[0]) for x in got) == result


def test_threefry_is_that_of_jax() -> None:
    import jax.numpy as jnp
    from jax.extend.random import threefry_2x32

    x0, x1 = np.random.default_rng(0).integers(0, 2**32, (2, 100)).astype(np.uint32)
    key = np.array([0x9ABCDEF0, 0x12345678], np.uint32)
    want = np.asarray(threefry_2x32(jnp.asarray(key), jnp.asarray(np.concatenate([x0, x1]))))
    got = threefry2x32(np.full(100, key[0]), np.full(100, key[1]), x0, x1)
    np.testing.assert_array_equal(np.concatenate(got), want)


def test_golden_words() -> None:
    assert words(SEED, UIDS, IDS, 3).tolist() == [
        [3009061876, 825586503, 3403959224],
        [1271112318, 3557343359, 3181403208],
        [504028268, 649675266, 2934205835],
    ]
    assert words(SEED, UIDS, IDS, 3, counter=70_000)[0].tolist() == [4028254011, 361273779, 3496367962]


@pytest.mark.parametrize("kind", KINDS)
def test_golden_values(kind: str) -> None:
    got = initial_values(KINDS[kind], 42, np.array([7], np.uint32), np.array([-123_456_789_012]), 6)
    assert got.dtype == np.float32
    assert got.view(np.uint32)[0].tolist() == GOLDEN[kind]


def test_words_depend_on_seed_table_id_and_column_alone() -> None:
    all_of_them = words(SEED, UIDS, IDS, 8)
    np.testing.assert_array_equal(words(SEED, UIDS[::-1], IDS[::-1], 8)[::-1], all_of_them)
    np.testing.assert_array_equal(words(SEED, UIDS, IDS, 3), all_of_them[:, :3])
    for other in (words(SEED + 1, UIDS, IDS, 8), words(SEED + 2**32, UIDS, IDS, 8), words(SEED, UIDS + 1, IDS, 8)):
        assert (other != all_of_them).all()


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_no_ids(dim: int) -> None:
    assert words(SEED, np.zeros(0, np.uint32), np.zeros(0, np.int64), dim).shape == (0, dim)


def test_normal() -> None:
    sample = _sample("normal").reshape(-1)
    assert abs(sample.mean() - 0.5) < 5 * 2 / len(sample) ** 0.5
    assert abs(sample.std() - 2) < 5 * 2 / (2 * len(sample)) ** 0.5
    assert stats.kstest(sample, stats.norm(0.5, 2).cdf).pvalue > 1e-3


def test_uniform() -> None:
    sample = _sample("uniform").reshape(-1)
    assert sample.min() >= -1
    assert sample.max() <= 3
    assert stats.kstest(sample, stats.uniform(-1, 4).cdf).pvalue > 1e-3


def test_truncated_normal() -> None:
    sample = _sample("truncated_normal").reshape(-1)
    assert np.abs(sample).max() <= 2
    assert abs(sample.std() - stats.truncnorm(-2, 2).std()) < 5e-3
    assert stats.kstest(sample, stats.truncnorm(-2, 2).cdf).pvalue > 1e-3


def test_one_sided_truncation() -> None:
    d = Distribution("truncated_normal", 1.0, 0.5, 0.75, 4.0)
    sample = initial_values(d, SEED, np.full(N, 3, np.uint32), np.arange(N), D).reshape(-1)
    assert 0.75 <= sample.min() < 0.7501
    assert stats.kstest(sample, stats.truncnorm(-0.5, 6, 1.0, 0.5).cdf).pvalue > 1e-3


def test_constant() -> None:
    assert (_sample("constant") == np.float32(0.25)).all()
    zeros = initial_values(Distribution("constant", 0.0), 0, UIDS, IDS, 2)
    assert (zeros.view(np.uint32) == 0).all()


@pytest.mark.parametrize("kind", ["normal", "truncated_normal"])
def test_no_spread_gives_the_mean(kind: str) -> None:
    got = initial_values(Distribution(kind, 0.75, 0.0), SEED, UIDS, IDS, 4)
    np.testing.assert_allclose(got, 0.75, rtol=1e-6)


def test_columns_and_neighbours_are_uncorrelated() -> None:
    sample = _sample("normal")
    columns = np.corrcoef(sample[:, :8].T) - np.eye(8)
    assert np.abs(columns).max() < 5 / N**0.5
    assert abs(np.corrcoef(sample[:-1, 0], sample[1:, 0])[0, 1]) < 5 / N**0.5


def test_tails_reach_as_far_as_a_normal_does() -> None:
    """100,000 draws reach 3.7 to 5.5 standard deviations on either side."""
    sample = (_sample("normal").reshape(-1) - 0.5) / 2
    assert 3.7 < sample.max() < 5.5
    assert -5.5 < sample.min() < -3.7


def test_rounding_noise_is_even() -> None:
    noise = rounding_noise(SEED, np.full(N, 3, np.uint32), np.arange(N), D, 5)
    assert noise.dtype == np.uint32
    assert noise.max() < 2**16
    assert abs(noise.mean() - 32767.5) < 5 * 2**16 / (12 * noise.size) ** 0.5
    assert (noise != rounding_noise(SEED, np.full(N, 3, np.uint32), np.arange(N), D, 6)).mean() > 0.99


@pytest.mark.parametrize(
    "wrong",
    [
        ("gamma", 0, 1),
        ("normal", float("nan"), 1),
        ("normal", 0, -1),
        ("uniform", 2, 1),
        ("truncated_normal", 0, 1, 2, 2),
    ],
)
def test_wrong_distributions_are_refused(wrong: tuple) -> None:
    with pytest.raises(ValueError):
        Distribution(*wrong)


def test_a_truncation_without_mass_is_refused() -> None:
    with pytest.raises(ValueError, match="no mass"):
        initial_values(Distribution("truncated_normal", 0.0, 1.0, 50.0, 60.0), SEED, UIDS, IDS, 2)
