"""RecIS's module paths, names, arguments, defaults and meanings, as thin classes on ours. See docs/compat-recis.md.

`torch.ops.recis` gets the operators that RecIS's users call; see operators.py.
"""

from typing import Any

from recis_core.compat.recis.operators import register as _register

__version__ = "1.0.0"  # of the RecIS whose names these are

_register()


def get_build_info() -> dict[str, Any]:
    """The version of RecIS whose names these are. There is no compiled library, so nothing was built."""
    return {"version": __version__, "git": {}, "build": {}}
