"""Reads YAML as plain values, without repeated keys and values that contain themselves; or as nodes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's own loader keeps the last of two equal keys, and builds values that contain themselves; this one raises."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        # deep=True builds all inner values at once, so that a value inside itself is found.
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """The file's only document.

    Raises:
      FileNotFoundError: no such file. ValueError: not YAML, or a repeated key; the message names the place.
    """
    with _errors_of(path):
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)


def read_nodes(path: str | Path) -> yaml.Node | None:
    """The file's only document as nodes, which hold each value's own text and line; None of an empty file.

    For who knows which kind each value must be: YAML 1.1 itself takes 1e-3 for text, and no for false. Keys may repeat.

    Raises:
      FileNotFoundError: no such file. ValueError: not YAML; the message names the place.
    """
    with _errors_of(path):
        found: yaml.Node | None = yaml.compose(Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
        return found


@contextmanager
def _errors_of(path: str | Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}.") from None
    except RecursionError:
        raise ValueError(f"{path} nests too deeply.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
