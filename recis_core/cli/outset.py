"""What can be known to fail before a run begins, so that no hours are trained in vain."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from recis_core.cli import torchrun
from recis_core.cli.build import read_sharding
from recis_core.cli.cache import read_cache
from recis_core.cli.data_files import files_of
from recis_core.cli.flags import flag
from recis_core.cli.tensorboard import summary_writer
from recis_core.cli.train_config import TrainConfig
from recis_core.exchange import Precision
from recis_core.serialize import latest_state


def check_outset(config: TrainConfig) -> None:
    """Raises what the flag's value would raise later on: ValueError, OSError, ModuleNotFoundError, CorruptCheckpoint."""
    for name in ("data", "test_data"):
        if getattr(config, name) is not None:
            check_files(name, getattr(config, name))
    for name in ("save", "tensorboard", "cache_disk"):
        if getattr(config, name) is not None:
            check_writable(name, getattr(config, name))
    if config.tensorboard is not None:
        summary_writer()
    read_sharding(config.sharding, torchrun.started())
    Precision.parse(config.precision)
    read_cache(config)
    if torchrun.is_first():  # whose disk the others may not see
        _check_states(config)


def choose_backend(name: str | None) -> None:
    """A --backend is every table's."""
    if name is not None:
        os.environ["RECIS_BACKEND"] = name


def _check_states(config: TrainConfig) -> None:
    try:
        if config.resume is not None:
            latest_state(config.resume)
    except FileNotFoundError:
        if not config.resume_if_any:
            raise
    if config.init_from is not None:
        latest_state(config.init_from)


def check_files(name: str, data: str) -> None:
    """Raises FileNotFoundError, which names the flag, where it names no file."""
    try:
        files_of(data)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{flag(name)} {data} names no file (from {os.getcwd()}). Give a file, a folder or a glob, ** for any depth."
        ) from error


def check_writable(name: str, directory: str) -> None:
    """By a file without a name in it, or in the first folder above that is there.

    Raises:
      OSError: as the system says of it, with the flag's name.
    """
    path = Path(directory)
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    try:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        where = "" if path == Path(directory) else f" ({path} is what there is)"
        raise OSError(
            f"{flag(name)} {directory} cannot be written to{where}: {error.strerror}. Name another directory."
        ) from error
