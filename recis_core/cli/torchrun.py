"""A process that torchrun started: one rank, which joins a process group and leaves it, and reports an error once."""

from __future__ import annotations

import hashlib
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def started() -> int:
    """How many processes run the command together."""
    return int(os.environ["WORLD_SIZE"]) if launched() else 1


def is_first() -> bool:
    """Whether this process reports for all ranks."""
    return not launched() or os.environ.get("RANK", "0") == "0"


def first_to_say(text: str) -> bool:
    """Whether no rank of this node has printed the text yet, in this attempt of torchrun's or an earlier one.

    torchrun restarts all ranks after any error, so each would print a mistake in flags, each time.
    """
    if not launched():
        return True
    said = _mark(hashlib.sha256(text.encode()).hexdigest()[:16])
    if said is None:
        return is_first() and os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0"
    try:
        os.close(os.open(said, os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return False
    return True


def note_failure() -> None:
    """Record that this rank ends by an error: torchrun then ends the others by SIGTERM, which they need not report."""
    mark = _mark(_failure()) if launched() else None
    if mark is not None:
        with suppress(OSError):
            mark.touch()


def failed() -> bool:
    """Whether a rank of this node has ended by an error in this attempt."""
    mark = _mark(_failure()) if launched() else None
    return mark is not None and mark.exists()


def _failure() -> str:
    return f"failed-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _mark(name: str) -> Path | None:
    """A file in the folder that torchrun keeps for all attempts of a run; None where it keeps none."""
    errors = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(errors).parents[2] / f"recis-{name}" if errors else None


@contextmanager
def flags_checked() -> Iterator[None]:
    """An error inside is a mistake in flags: torchrun's next attempts end at once (`leave_if_refused`)."""
    try:
        yield
    except BaseException:
        mark = _mark("refused") if launched() else None
        if mark is not None:
            with suppress(OSError):
                mark.touch()
        raise


def leave_if_refused() -> None:
    """End the process if an earlier attempt found, and printed, a mistake in flags."""
    mark = _mark("refused")
    if mark is not None and mark.exists():
        os._exit(2)


def share_the_machine() -> None:
    """One GPU and a part of the cores for each process; before anything is imported that counts them."""
    local, count = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = [d for d in seen.split(",") if d] if seen is not None else [str(i) for i in range(count)]
    if len(devices) >= count:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[local]
    os.environ.setdefault("NUMBA_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))


@contextmanager
def process_group(device: str) -> Iterator[tuple[int, int]]:
    """(rank, world size) in the default group of torchrun's processes: NCCL where tables are on GPUs, else gloo.

    A group that exists is used as it is, and kept.
    """
    import torch.distributed as dist
    from torch.distributed.rendezvous import rendezvous

    from recis_core.channel.rank_group import timeout

    if dist.is_initialized() or not launched():
        yield (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
        return
    limit = timedelta(seconds=timeout())
    store, rank, world = next(rendezvous("env://", timeout=limit))
    kind = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(kind, store=_of_attempt(store), rank=rank, world_size=world, timeout=limit)
    yield rank, world
    # Not after an error: the others may wait in another call, and this one would wait for them.
    dist.destroy_process_group()


def _of_attempt(store: Any) -> Any:
    """torchrun --master-addr keeps one store over restarts, in which ranks would find addresses of dead ones.

    On several nodes their counts of restarts may differ; there a store of each attempt (--rdzv-backend c10d) is needed.
    """
    from torch.distributed import PrefixStore

    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        return store
    return PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def run_and_leave(command: Callable[[], int]) -> NoReturn:
    """Run it and end the process: threads of a process group may abort one that leaves in the ordinary way."""
    status = 1
    try:
        status = command()
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        if status not in (0, 130, 143):
            note_failure()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
