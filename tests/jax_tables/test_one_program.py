"""One compiled program of lookup and update: in place, and what it does when there is no room, or no number.

Sizes: N ids, D dim.
"""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import recis_core.jax as rj
from recis_core.errors import NonFiniteGradient, RecisError, TableFull

N, D, ROWS = 64, 4, 6000
CONFIG = rj.TableConfig("item", D, rj.Adagrad(lr=0.1), max_rows=ROWS)
ALL = np.ones(N, bool)


def train(state: rj.TableState, words: jax.Array, valid: jax.Array, grads: jax.Array, lr: float) -> Any:
    """Gradients that depend on no row: then nothing but the program itself orders reads before writes."""
    state, rows, ticket = rj.lookup(state, words, valid)
    return rj.update(state, ticket, grads, lr=lr), rows, ticket


@pytest.fixture(scope="module")
def program() -> Any:
    state = rj.create(CONFIG)
    inputs = rj.words(np.arange(N)), ALL, jnp.ones((N, D)), 0.1
    return jax.jit(train, donate_argnums=0).lower(state, *inputs).compile()


def run(program: Any, state: rj.TableState, ids: Any, valid: Any = ALL, grads: Any = None, lr: float = 0.1) -> Any:
    grads = jnp.ones((N, D)) if grads is None else grads
    return program(state, rj.words(np.asarray(ids, np.int64)), valid, grads, lr)


def table_copies(text: str, state: rj.TableState) -> list[str]:
    """Copies of arrays as large as a table's: of its rows, entries or buckets, all of which are more than a batch's ids."""
    assert state.buckets == 512
    sizes = {x.shape[0] for x in jax.tree.leaves(state) if x.ndim and x.shape[0] >= state.buckets}
    return re.findall(rf"= \w+\[(?:{'|'.join(map(str, sizes))})[\],].* copy\(.*", text)


def bytes_of(tree: Any) -> int:
    return sum(x.nbytes for x in jax.tree.leaves(tree))


def test_a_step_is_in_place(program):
    state, memory = rj.create(CONFIG), program.memory_analysis()
    assert memory.alias_size_in_bytes == bytes_of(state)
    assert table_copies(program.as_text(), state) == []


@pytest.mark.full
def test_a_copy_is_seen(monkeypatch):
    """The same program without what orders the write after the read."""
    import sys

    module = sys.modules["recis_core.jax.lookup"]
    monkeypatch.setattr(module, "_after", lambda values, rows: rows)
    state = rj.create(CONFIG)
    inputs = rj.words(np.arange(N)), ALL, jnp.ones((N, D)), 0.1
    jax.clear_caches()
    text = jax.jit(train, donate_argnums=0).lower(state, *inputs).compile().as_text()
    jax.clear_caches()
    assert table_copies(text, state)


def test_only_rows_with_a_gradient_change(program):
    valid = np.arange(N) < 3
    state, first, _ = run(program, rj.create(CONFIG), [5, 5, -9, *range(100, 161)], valid, jnp.full((N, D), 2.0))
    assert rj.counts(state).rows == 2
    state, second, _ = run(program, state, [5, -9, 7, *range(100, 161)], valid)
    np.testing.assert_allclose(
        second[:2], np.stack([first[0] - 0.1, first[2] - 0.1]), rtol=1e-6
    )  # Adagrad's first step is lr
    assert not np.asarray(second[3:]).any()


def test_a_full_table_refuses_and_tells(program):
    state = rj.create(CONFIG)
    for beg in range(0, ROWS - N, N):
        state, rows, _ = run(program, state, range(beg, beg + N))
    rj.check(state)
    kept = rj.counts(state).rows
    state, rows, _ = run(program, state, [0, *range(10**6, 10**6 + N - 1)])
    assert rj.counts(state).rows == kept
    assert np.asarray(rows[0]).any()
    assert not np.asarray(rows[1:]).any()
    told = rf"refused {N - 1} new ids: {kept} of \d+ rows.*were not trained.*max_rows"
    with pytest.raises(TableFull, match=told):
        rj.check(state)
    with pytest.raises(TableFull, match="refused"):
        rj.reserve(state, 1)
    state = rj.clear_errors(state)
    state, rows, _ = run(program, state, range(N))
    rj.check(state)
    assert np.asarray(rows).all()


def test_what_is_not_finite_changes_nothing(program):
    state, before, _ = run(program, rj.create(CONFIG), range(N))
    grads = jnp.ones((N, D)).at[3, 1].set(jnp.nan)
    state, now, _ = run(program, state, range(N), grads=grads)
    state, after, _ = run(program, state, range(N), lr=float("inf"))
    np.testing.assert_array_equal(now, after)
    assert int(state.step) == int(state.applied[0]) == 1
    with pytest.raises(NonFiniteGradient, match="2 updates of tables item"):
        rj.check(state)


def test_padding_may_hold_anything(program):
    grads = jnp.ones((N, D)).at[10:].set(jnp.nan)
    state, *_ = run(program, rj.create(CONFIG), range(N), np.arange(N) < 10, grads)
    rj.check(state)
    assert int(state.step) == 1


def test_erased_ids_begin_anew_and_their_tickets_are_stale(program):
    state, first, ticket = run(program, rj.create(CONFIG), range(N))
    state = rj.erase(state, rj.words(np.r_[np.arange(8), np.arange(8), 10**9]))
    assert (rj.counts(state).rows, rj.counts(state).erased) == (N - 8, 8)
    late = rj.update(state, ticket, jnp.ones((N, D)))
    np.testing.assert_array_equal(late.weights, state.weights)
    with pytest.raises(RecisError, match="1 updates of tables item came by tickets of before an erase"):
        rj.check(late)
    _, again, _ = run(program, state, range(N))
    np.testing.assert_array_equal(again[:8], first[:8])
    assert (np.asarray(again[8:]) != np.asarray(first[8:])).all()


def test_find_inserts_nothing(program):
    state, rows, _ = run(program, rj.create(CONFIG), range(N))
    ids = rj.words(np.array([[0, 1], [10**6, 2]]))
    found = rj.find(state, ids, np.array([[True, True], [True, False]]))
    np.testing.assert_allclose(found[0], rows[:2] - 0.1, rtol=1e-6)
    assert found.shape == (2, 2, D)
    assert not np.asarray(found[1]).any()
    assert rj.counts(state).rows == N
    anew = rj.find(state, ids, unknown="initial")[1, 0]
    np.testing.assert_array_equal(anew, run(program, rj.create(CONFIG), [10**6, *range(N - 1)])[1][0])


def test_a_state_that_was_given_away_is_named(program):
    state = rj.create(CONFIG)
    run(program, state, range(N))
    for call in (rj.check, lambda state: rj.reserve(state, 1), lambda state: next(rj.blocks_of(state, "item"))):
        with pytest.raises(RecisError, match="donated to a step.*the state that the step returned"):
            call(state)
    with pytest.raises(TypeError, match="between steps, outside of jitted functions"):
        jax.jit(rj.check)(rj.create(CONFIG))


def test_bad_calls_are_named():
    state = rj.create(CONFIG)
    for call, error, told in (
        (lambda: rj.lookup(state, {"user": rj.words([1])}), ValueError, "holds tables item; got 'user'"),
        (lambda: rj.lookup(state, rj.words([1]), np.ones(2, bool)), ValueError, "valid must be bool"),
        (lambda: rj.find(state, rj.words([1]), unknown="zero"), ValueError, "'zeros' or 'initial'"),
        (lambda: rj.lookup(state, []), ValueError, "ids must be arrays"),
        (lambda: rj.reserve(state, 1.5), TypeError, "how many ids come"),
        (lambda: rj.create(CONFIG, axis="data"), ValueError, "needs a mesh"),
        (lambda: rj.create("item"), TypeError, "takes a TableConfig"),
        (lambda: rj.TableConfig("item", 4, rule=np), TypeError, "one of recis_core.jax"),
        (lambda: rj.Adam(lr=-1), ValueError, "lr must be"),
    ):
        with pytest.raises(error, match=told):
            call()
