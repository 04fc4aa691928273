"""Which checkpoints of a directory go."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from recis_core.backends.errors import CorruptCheckpoint
from recis_core.serialize.checkpoint.checkpoint import Checkpoint
from recis_core.serialize.checkpoint.policies import KeepPolicy
from recis_core.serialize.manifest import Manifest
from recis_core.serialize.places import manifest_of, place_of_step, remove_checkpoint, steps_in
from recis_core.serialize.store_path import Place

log = logging.getLogger(__name__)
METRICS = "metrics"


def prune(
    directory: Place, keep: KeepPolicy, later: Callable[[Callable[[], None]], None] = lambda remove: remove()
) -> list[int]:
    """Remove what `unkept` finds. Returns the steps removed. later: see remove_checkpoint."""
    gone = unkept(directory, keep)
    for step in gone:
        remove_checkpoint(directory, step, later)
    return gone


def unkept(directory: Place, keep: KeepPolicy) -> list[int]:
    """Steps of what the policy does not keep, and no kept delta needs; never the newest.

    A checkpoint whose manifest cannot be read stays, and so do all before it, which it may need.
    """
    steps = steps_in(directory)
    manifests, unread = _manifests(directory, steps)
    kept = keep.kept(steps, metrics_in(directory, manifests)) | set(steps[-1:]) | unread
    kept |= {step for step in steps if unread and step < max(unread)}
    for step in sorted(kept, reverse=True):
        kept |= bases_of(step, manifests)
    return [step for step in steps if step not in kept]


def _manifests(directory: Place, steps: Sequence[int]) -> tuple[dict[int, Manifest], set[int]]:
    """Those that can be read, and steps of the others."""
    found, unread = {}, set()
    for step in steps:
        try:
            found[step] = manifest_of(directory, step)
        except CorruptCheckpoint as error:
            log.warning("A checkpoint that cannot be read is not removed: %s", error)
            unread.add(step)
    return found, unread


def bases_of(step: int, manifests: Mapping[int, Manifest]) -> set[int]:
    """Steps of all checkpoints that a delta needs."""
    found: set[int] = set()
    while (manifest := manifests.get(step)) is not None and manifest.head.base is not None:
        step = manifest.head.base.step
        found.add(step)
    return found


def metrics_in(directory: Place, manifests: Mapping[int, Manifest]) -> dict[int, dict[str, float]]:
    """What `save` was given, by step."""
    found = {}
    for step, manifest in manifests.items():
        if METRICS in manifest.parts:
            found[step] = Checkpoint(place_of_step(directory, step), manifest, alone=True).part(METRICS)
    return found
