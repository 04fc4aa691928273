"""Other frameworks' names and meanings, as thin classes on ours."""

from recis_core.compat.install import install

__all__ = ["install"]
