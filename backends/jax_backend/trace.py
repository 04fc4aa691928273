"""What JAX does for a while, as a file for Perfetto."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import jax


class JaxTrace:
    """Records from now on, of the host and of JAX's devices. JAX records once at a time.

    Raises:
      RuntimeError: JAX is recording already.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._aside = tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            jax.profiler.start_trace(self._aside, create_perfetto_trace=True, profiler_options=_without_python())
        except BaseException:
            shutil.rmtree(self._aside)
            raise

    def finish(self) -> Path:
        """Write the file, Chrome's JSON, gzipped."""
        try:
            jax.profiler.stop_trace()
            (made,) = Path(self._aside).rglob("perfetto_trace.json.gz")
            made.replace(self._path)
        finally:
            shutil.rmtree(self._aside)
        return self._path


def _without_python() -> jax.profiler.ProfileOptions:
    """Each call of Python's builtins would be an event, and most of the time."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    return options
