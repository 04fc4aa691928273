"""bulk_insert in interpret mode and its jnp reference against a model in plain Python: placement bit for bit."""

from functools import partial

import jax
import numpy as np
import pytest

from recis_core.pallas_kernels import bulk_insert
from recis_core.pallas_kernels.reference.bulk_insert import bulk_insert as reference
from tests.kernels.indices import FORM, Model, content, keys_of, pairs_of, random_pairs, settings, word

kernel = jax.jit(partial(bulk_insert, form=FORM, interpret=True), static_argnames=("evict",))
FORMS = {"kernel": kernel, "reference": jax.jit(partial(reference, form=FORM), static_argnames=("evict",))}
forms = pytest.mark.parametrize("form", FORMS)
Q = 150  # padded: some chunks of 64, one of them short
PADDING = [(7, 7)]


def inserted(form, model, pairs, evict=False, **numbers):
    """What came of the call beside what the model says of it; the model moves on."""
    keys = keys_of(pairs + PADDING * (Q - len(pairs)))
    after, result = FORMS[form](model.index(), keys, settings(len(pairs), **numbers), evict=evict)
    expected = model.insert(pairs, evict=evict, **numbers)
    return after, result, expected


def check(after, result, expected, model, count):
    assert content(after) == model.held
    assert (int(after.next_row), int(after.stashed)) == (model.next_row, model.stashed)
    assert np.asarray(after.free)[: int(after.free_count)].tolist() == model.free
    assert not np.asarray(after.taken).any()
    assert bool(result.failed) == (expected is None)
    rows = np.asarray(result.rows)
    assert (rows[count:] == -1).all()
    if expected is None:
        assert (rows == -1).all()
        return
    assert rows[:count].tolist() == expected[0]
    if result.evicted is not None:
        number = int(result.evicted.count)
        got = list(zip(pairs_of(result.evicted.keys), np.asarray(result.evicted.rows).tolist(), strict=True))
        assert got[:number] == expected[1]
        assert (np.diff(np.asarray(result.evicted.by)[:number]) > 0).all()


@forms
@pytest.mark.parametrize(("buckets", "ways"), [(16, 16), (64, 4), (256, 1)])
def test_batches_until_the_index_is_nearly_full(form, buckets, ways):
    rng = np.random.default_rng(buckets)
    model = Model(buckets, ways, stash=256)
    for count in (0, 1, 60, 100):
        pairs = random_pairs(rng, count)
        check(*inserted(form, model, pairs), model, len(pairs))
    assert len(model.held) == 161


@forms
def test_erased_rows_are_used_first(form):
    model = Model(16, 16)
    model.insert(random_pairs(np.random.default_rng(1), 50))
    for at in sorted(model.held)[:20]:
        model.free.append(model.held.pop(at)[1])
    pairs = random_pairs(np.random.default_rng(2), 30)
    check(*inserted(form, model, pairs), model, len(pairs))
    assert not model.free


@forms
def test_all_in_one_bucket(form):
    """Sixteen ways and both candidates the same: the rest goes to the stash, in order."""
    pairs = sorted((0, i) for i in range(9_000) if {word((0, i), s) % 16 for s in (FORM.a_salt, FORM.b_salt)} == {5})
    assert len(pairs) > 20
    model = Model(16, 16, stash=16)
    after, result, expected = inserted(form, model, pairs[:25])
    check(after, result, expected, model, 25)
    assert int(after.stashed) == 9


@forms
def test_evicts_the_lowest_scores_and_breaks_ties_by_key(form):
    rng = np.random.default_rng(3)
    model = Model(4, 8, stash=16)
    evicted = 0
    for step in range(1, 7):
        known = {held[0] for held in model.held.values()}
        pairs = [p for p in random_pairs(rng, int(rng.integers(5, 25))) if p not in known]
        # The last step's entries are pinned; scores repeat, so that ties are common.
        numbers = {"step": step, "pinned_from": step - 1, "score": int(rng.integers(3))}
        after, result, expected = inserted(form, model, pairs, evict=True, **numbers)
        check(after, result, expected, model, len(pairs))
        evicted += 0 if expected is None else len(expected[1])
    assert evicted > 20


@forms
@pytest.mark.parametrize("evict", [False, True])
def test_no_room_leaves_everything_as_it_was(form, evict):
    rng = np.random.default_rng(4)
    model = Model(4, 16, stash=8)
    model.insert(random_pairs(rng, 40), step=5)
    before = {at: list(held) for at, held in model.held.items()}
    pairs = random_pairs(rng, 150)
    after, result, expected = inserted(form, model, pairs, evict=evict, step=6, pinned_from=5)
    assert expected is None
    check(after, result, expected, model, len(pairs))
    assert content(after) == before
    if evict:
        assert int(result.evicted.count) == 0


@forms
def test_no_row_left(form):
    model = Model(16, 16)
    pairs = random_pairs(np.random.default_rng(5), 30)
    assert inserted(form, model, pairs, max_rows=29)[2] is None
    check(*inserted(form, model, pairs[:29], max_rows=29), model, 29)


@forms
def test_rows_run_out_and_victims_give_theirs(form):
    rng = np.random.default_rng(6)
    model = Model(16, 16)
    model.insert(random_pairs(rng, 40))
    pairs = random_pairs(rng, 30)
    after, result, expected = inserted(form, model, pairs, evict=True, max_rows=50, step=9, pinned_from=9)
    check(after, result, expected, model, len(pairs))
    assert len(expected[1]) == 20


def test_errors_name_the_argument():
    index, keys = Model(4, 4).index(), keys_of([(0, 1)])
    with pytest.raises(ValueError, match=r"index\.tags must be"):
        bulk_insert(index._replace(tags=index.tags[:3]), keys, settings(1), form=FORM)
    with pytest.raises(TypeError, match=r"keys\.lo must be uint32"):
        bulk_insert(index, keys._replace(lo=keys.lo.astype("int32")), settings(1), form=FORM)
    with pytest.raises(ValueError, match=r"settings\.step must have shape"):
        bulk_insert(index, keys, settings(1)._replace(step=keys.lo.astype("int32")), form=FORM)
