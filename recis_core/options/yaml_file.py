"""YAML as plain values, with what YAML lets pass in silence refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys without a word, and builds values that hold themselves; not this one."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        # At once and to the bottom, so that a value inside itself is found while it is built.
        return super().construct_object(node, deep=True)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | Path) -> Any:
    """The file's one document.

    Raises:
      FileNotFoundError: no such file. ValueError: not YAML, or a key given twice; the message says where.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}.") from None
    except RecursionError:
        raise ValueError(f"{path} nests too deeply.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
