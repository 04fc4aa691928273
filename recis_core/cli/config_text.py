"""A config as a config file: every flag with its value, and its help as a comment."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from recis_core.cli.config_file import Way
from recis_core.cli.field_docs import field_docs
from recis_core.cli.flags import flag, groups, keywords

WIDTH = 110


def config_text(config: Any, command: str, instead: Mapping[Way, Any]) -> str:
    """instead: values to write in place of the config's."""
    lines = [
        f"# {command} CONFIG.yaml; flags after it win. A key is a field of a group, or a flag by its own name.",
        "",
    ]
    lines += _fields(config, (), instead)
    for group, kind in groups(type(config)).items():
        lines += [
            "",
            *_comment(str(kind.__doc__), ""),
            f"{group}:",
            *_fields(getattr(config, group), (group,), instead),
        ]
    return "\n".join(lines) + "\n"


def _fields(part: Any, way: Way, instead: Mapping[Way, Any]) -> Iterator[str]:
    docs, indent = field_docs(type(part)), "  " * len(way)
    for name, keyword in keywords(type(part)).items():
        yield from _comment(f"{flag(keyword)}: {docs.get(name, '')}", indent)
        yield f"{indent}{name}: {_value(instead.get((*way, name), getattr(part, name)))}"


def _comment(text: str, indent: str) -> list[str]:
    start = f"{indent}# "
    return textwrap.wrap(
        " ".join(text.split()), WIDTH, initial_indent=start, subsequent_indent=start, break_long_words=False
    )


def _value(value: Any) -> str:
    """In one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, width=1 << 30, allow_unicode=True)
    return text.removesuffix("...\n").rstrip("\n")
