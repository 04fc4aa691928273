"""probe in interpret mode and its jnp reference against a model in plain Python."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recis_core.pallas_kernels import Touch, probe
from recis_core.pallas_kernels.reference.probe import probe as reference
from tests.kernels.indices import FORM, Model, content, keys_of, random_pairs, word

FORMS = {
    name: jax.jit(partial(f, form=FORM, **options), static_argnames=("touch",))
    for name, f, options in (("kernel", probe, {"interpret": True}), ("reference", reference, {}))
}
forms = pytest.mark.parametrize("form", FORMS)


def asked_of(model, rng, strangers=30):
    """Every key held, some twice, and some that are not."""
    known = [held[0] for held in model.held.values()]
    pairs = known + known[::3] + random_pairs(rng, strangers)
    return [pairs[i] for i in rng.permutation(len(pairs))]


def expected_of(model, pairs, valid):
    at = {held[0]: (entry, held[1]) for entry, held in model.held.items()}
    found = [at.get(pair, (-1, -1)) if ok else (-1, -1) for pair, ok in zip(pairs, valid, strict=True)]
    return [entry for entry, _ in found], [row for _, row in found]


@forms
@pytest.mark.parametrize(("buckets", "ways"), [(16, 16), (32, 4), (64, 1)])
def test_finds_what_is_there(form, buckets, ways):
    rng = np.random.default_rng(ways)
    model = Model(buckets, ways, stash=128)
    model.insert(random_pairs(rng, 100))
    pairs = asked_of(model, rng)
    valid = rng.random(len(pairs)) < 0.9
    index = model.index()
    after, found = FORMS[form](index, keys_of(pairs), jnp.asarray(valid))
    entries, rows = expected_of(model, pairs, valid)
    assert np.asarray(found.entry).tolist() == entries
    assert np.asarray(found.rows).tolist() == rows
    assert content(after) == model.held
    if ways == 1:
        assert model.stashed > 5  # so that the stash was searched, too


@forms
def test_free_entries_and_equal_fingerprints_do_not_mislead(form):
    rng = np.random.default_rng(1)
    model = Model(4, 16)
    model.insert(random_pairs(rng, 40))
    erased = sorted(model.held)[:9]
    index = model.index()
    gone = [model.held.pop(at)[0] for at in erased]
    index = index._replace(rows=index.rows.at[jnp.array(erased)].set(-1))  # their keys and fingerprints stay
    pairs = gone + [held[0] for held in model.held.values()]
    # Each bucket's ways all wear the fingerprint of one key, of whose two buckets it is: every way has to be looked at.
    for key in pairs[9:12]:
        bucket = word(key, FORM.a_salt) % 4
        lie = index._replace(tags=index.tags.at[bucket].set(jnp.uint32(word(key, FORM.tag_salt))))
        _, found = FORMS[form](lie, keys_of([key]), jnp.ones(1, bool))
        assert np.asarray(found.entry).tolist() == expected_of(model, [key], [True])[0]
    _, found = FORMS[form](index, keys_of(pairs), jnp.ones(len(pairs), bool))
    assert np.asarray(found.entry).tolist() == expected_of(model, pairs, [True] * len(pairs))[0]


@forms
@pytest.mark.parametrize("counts", [False, True])
def test_touching_stamps_scores_and_reports_what_was(form, counts):
    rng = np.random.default_rng(2)
    model = Model(8, 16, stash=64)
    model.insert(random_pairs(rng, 100), step=3, score=11)
    pairs = [held[0] for held in model.held.values()][::2] + random_pairs(rng, 9)
    valid = np.arange(len(pairs)) % 5 > 0
    after, found = FORMS[form](model.index(), keys_of(pairs), jnp.asarray(valid), jnp.array([8]), touch=Touch(counts))
    entries, _ = expected_of(model, pairs, valid)
    for at in entries:
        if at >= 0:
            model.held[at][2:] = [12 if counts else 8, 8]
    assert content(after) == model.held
    known = np.array(entries) >= 0
    assert np.asarray(found.scores).tolist() == np.where(known, 11, 0).tolist()
    assert np.asarray(found.stamps).tolist() == np.where(known, 3, 0).tolist()


@forms
def test_repeated_keys_are_touched_alike(form):
    model = Model(8, 16)
    model.insert([(0, 5)], step=3)
    after, found = FORMS[form](
        model.index(), keys_of([(0, 5)] * 200), jnp.ones(200, bool), jnp.array([8]), touch=Touch()
    )
    assert list(content(after).values()) == [[(0, 5), 0, 8, 8]]
    assert set(np.asarray(found.stamps).tolist()) <= {3, 8}
    assert np.asarray(found.stamps)[0] == 3


@forms
@pytest.mark.parametrize("touch", [None, Touch()])
def test_nothing_asked_and_nothing_held(form, touch):
    step = None if touch is None else jnp.array([8])
    after, found = FORMS[form](Model(4, 16).index(), keys_of([]), jnp.zeros(0, bool), step, touch=touch)
    assert found.entry.shape == (0,)
    after, found = FORMS[form](Model(4, 16).index(), keys_of([(0, 0)]), jnp.ones(1, bool), step, touch=touch)
    assert np.asarray(found.entry).tolist() == [-1]
    assert content(after) == {}


def test_same_bits_again():
    rng = np.random.default_rng(3)
    model = Model(16, 16)
    model.insert(random_pairs(rng, 150))
    keys = keys_of(asked_of(model, rng))
    runs = [FORMS["kernel"](model.index(), keys, jnp.ones(len(keys.lo), bool)) for _ in range(2)]
    assert all(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x == y).all()), *runs)))


def test_errors_name_the_argument():
    index, keys = Model(4, 4).index(), keys_of([(0, 1)])
    with pytest.raises(ValueError, match="step goes with touch"):
        probe(index, keys, jnp.ones(1, bool), form=FORM, touch=Touch())
    with pytest.raises(TypeError, match="valid must be bool"):
        probe(index, keys, jnp.ones(1), form=FORM)
    with pytest.raises(ValueError, match="W at most 16"):
        probe(Model(4, 32).index(), keys, jnp.ones(1, bool), form=FORM)
