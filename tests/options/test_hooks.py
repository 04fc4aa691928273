"""Hooks as options: their parameters, their texts, and what tables make of them."""

from __future__ import annotations

import pickle

import pytest

from recis_core.nn import AdmitHook, EmbeddingEngine, EmbeddingOption, FilterHook

TEXTS = {
    "readonly": AdmitHook("ReadOnly"),
    "frequency(5)": AdmitHook("Frequency", {"threshold": 5}),
    "frequency(5,counter=bloom,bytes=1000000)": AdmitHook(
        "Frequency", {"threshold": 5, "counter": "bloom", "bytes": 1e6}
    ),
    "probability(0.1)": AdmitHook("Probability", {"p": 0.1}),
    "step(1000)": FilterHook("GlobalStepFilter", {"filter_step": 1000}),
    "lru(1000000)": FilterHook("LRU", {"max_rows": 10**6}),
    "lfu(1000000,decay=0.5)": FilterHook("LFU", {"max_rows": 10**6, "decay": 0.5}),
    "ttl(3600.0)": FilterHook("TTL", {"seconds": 3600}),
    "norm(0.0001)": FilterHook("Norm", {"below": 1e-4}),
}


@pytest.mark.parametrize("text", TEXTS)
def test_texts(text: str) -> None:
    hook = TEXTS[text]
    assert str(hook) == text
    assert type(hook).of(text) == hook == type(hook).of(hook) == pickle.loads(pickle.dumps(hook))
    assert hash(type(hook).of(text)) == hash(hook)


def test_numbers_may_be_written_as_one_likes() -> None:
    assert FilterHook.of(" lru ( 1e6 ) ") == TEXTS["lru(1000000)"]
    assert AdmitHook.of("probability(.1)") == TEXTS["probability(0.1)"]
    assert AdmitHook.of("frequency(threshold=5)") == TEXTS["frequency(5)"]
    assert AdmitHook.of(None) is None


@pytest.mark.parametrize(
    ("kind", "text", "says"),
    [
        (AdmitHook, "often(5)", "admit_hook must read readonly, frequency(threshold), probability(p); got 'often(5)'"),
        (AdmitHook, "frequency", "Frequency needs threshold"),
        (AdmitHook, "frequency(0)", "threshold must be 1 to 65,535 occurrences; got 0"),
        (AdmitHook, "frequency(2.5)", "threshold must be of type int; got 2.5"),
        (AdmitHook, "frequency(5,9)", "goes without its name"),
        (AdmitHook, "frequency(5,counter=sketch)", "counter must be exact or bloom; got 'sketch'"),
        (
            AdmitHook,
            "frequency(5,size=3)",
            "Frequency takes threshold, counter, capacity, bytes, halve_every; got size",
        ),
        (AdmitHook, "probability(1.5)", "p must be in (0, 1]; got 1.5"),
        (FilterHook, "ttl(-1)", "seconds must be positive; got -1.0"),
        (FilterHook, "lfu(5,decay=2)", "decay must be in [0, 1]; got 2.0"),
        (FilterHook, "step(1", "filter_hook must read step(filter_step), lru(max_rows)"),
    ],
)
def test_errors(kind: type, text: str, says: str) -> None:
    with pytest.raises((ValueError, TypeError)) as error:
        kind.of(text)
    assert says in str(error.value)


def test_a_function_is_a_hook() -> None:
    hook = FilterHook(len)
    assert (hook.cause, str(hook)) == ("custom", "custom:len")
    assert hook == FilterHook(len) != FilterHook(abs)
    with pytest.raises(ValueError, match="takes no params"):
        FilterHook(len, {"n": 1})


def test_hooks_part_storages() -> None:
    """Equal hooks share one, a text or not; others do not; one table cannot have two."""
    options = {
        "a": EmbeddingOption(4, admit_hook="frequency(2)", filter_hook="lru(5)"),
        "b": EmbeddingOption(4, admit_hook=AdmitHook("Frequency", {"threshold": 2}), filter_hook="lru(5)"),
        "c": EmbeddingOption(4, admit_hook="frequency(2)", filter_hook="lru(6)"),
        "d": EmbeddingOption(4, filter_hook="lru(5)"),
    }
    tables = EmbeddingEngine(options).sparse_parameters()
    assert tables["a"].physical is tables["b"].physical
    assert len({table.physical for table in tables.values()}) == 3
    with pytest.raises(ValueError, match="must agree on filter_hook"):
        EmbeddingEngine({n: EmbeddingOption(4, shared_name="t", filter_hook=f"lru({n})") for n in "12"})
