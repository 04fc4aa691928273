"""Each public name of RecIS is here, or raises with the way out; recis_names.txt lists them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from recis_core.compat.recis import absent, alibaba
from recis_core.compat.recis.framework.checkpoint_manager import Saver
from recis_core.compat.recis.nn import DynamicEmbedding, EmbeddingEngine, EmbeddingOption

HOME = "recis_core.compat.recis"


def listed() -> Iterator[tuple[str, str, list[str]]]:
    """(module, name, members)"""
    module = ""
    for line in (Path(__file__).parent / "recis_names.txt").read_text().splitlines():
        if line.startswith("["):
            module = f"{HOME}.{line.strip('[]')}".rstrip(".")
        elif not line.startswith("#"):
            name, *members = line.split()
            yield module, name, members


def asked(module: str, name: str) -> tuple[Any, str]:
    """(what `from module import name` gives, or what it raised)"""
    try:
        return getattr(import_module(module), name), ""
    except ImportError as error:
        return None, str(error)


@pytest.fixture
def instances(fresh, tmp_path: Path) -> dict[str, Any]:
    return {
        "DynamicEmbedding": DynamicEmbedding(EmbeddingOption(2, shared_name=fresh("one"))),
        "EmbeddingEngine": EmbeddingEngine({"f": EmbeddingOption(2, shared_name=fresh("two"))}),
        "Saver": Saver(nn.Linear(1, 1), output_dir=tmp_path),
    }


def test_every_name_is_here_or_says_the_way_out(instances) -> None:
    there, refused = 0, {}
    for module, name, members in listed():
        found, told = asked(module, name)
        if found is None:
            refused[name] = told
            continue
        there += 1
        for member in members:
            if not hasattr(found, member):
                with pytest.raises(AttributeError) as refusal:
                    getattr(instances[name], member)
                refused[f"{name}.{member}"] = str(refusal.value)
    assert there > 100
    words = {*alibaba.NAMES.values()} | {way for ways in absent.IN_MODULES.values() for way in ways.values()}
    words |= {way for ways in absent.IN_CLASSES.values() for way in ways.values()}
    for name, told in refused.items():
        assert told.startswith(f"{name} "), name
        assert told.removeprefix(f"{name} ") in words, name
        assert re.search(r"\b(Call|Use|Load|Give|Export|Read|gives|has|have|writes)\b", told), f"{name}: {told}"


def test_whats_refused_is_in_recis_and_other_names_are_plain_mistakes(instances) -> None:
    modules = {module.removeprefix(f"{HOME}."): set() for module, _, _ in listed()}
    for module, name, _ in listed():
        modules[module.removeprefix(f"{HOME}.")].add(name)
    for module, ways in absent.IN_MODULES.items():
        if module != "framework.filesystem":  # which no list of public names has
            assert set(ways) <= modules[module]
    assert not hasattr(import_module(f"{HOME}.nn.modules.embedding"), "EmbedingOption")
    for each in instances.values():
        assert not hasattr(each, "nothing")
    with pytest.raises(ImportError, match="get_file_system opens paths of Alibaba's stores"):
        from recis_core.compat.recis.framework.filesystem import get_file_system  # noqa: F401
