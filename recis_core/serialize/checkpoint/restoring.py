"""A restore: all that is taken is read and checked first, then put in place at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from recis_core.backends.errors import StateMismatch
from recis_core.optim.optimizer_state import check_dense
from recis_core.optim.sparse_optimizer import SparseOptimizer
from recis_core.plain_torch import without_gradients
from recis_core.serialize.checkpoint.checkpoint import Checkpoint
from recis_core.serialize.checkpoint.contents import Contents, check_random, set_random_state
from recis_core.serialize.checkpoint.selection import Taken
from recis_core.serialize.checkpoint.sharded import read_wanted
from recis_core.serialize.checkpoint.tables_aside import TablesAside
from recis_core.serialize.part_file import DTYPES
from recis_core.serialize.parts import naming
from recis_core.serialize.shared_state import by_rank
from recis_core.serialize.tree import Sharded
from recis_core.uninterrupted import uninterrupted

Load = Callable[[Any], object]


@dataclass(frozen=True)
class Restored:
    """What a restore did, by the names that contents.py lists.

    step: of the manager's own checkpoint; 0 if there was none. missing: of what is registered and was to be loaded, what no
    source had; it is as it was. fresh: what starts anew because what was saved does not fit, in words. ignored: what sources
    had, and nothing here has.
    """

    step: int
    missing: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)


class Restoring:
    """Reads and checks all that is taken; changes nothing yet.

    Args:
      taken: {name here: thing of a checkpoint}. rank, world: of this process. slots: see TablesAside.

    Raises:
      StateMismatch: something does not fit. CorruptCheckpoint.
    """

    def __init__(
        self, contents: Contents, taken: Mapping[str, Taken], rank: int, world: int, *, slots: bool = True
    ) -> None:
        self.contents, self.taken, self.rank, self.world = contents, taken, rank, world
        self.fresh: list[str] = []
        self._loads: list[tuple[Any, Load, Any]] = []  # (object, how it loads, what)
        of_tables = {name.removeprefix("tables/"): t for name, t in taken.items() if name.startswith("tables/")}
        self._dense = self._read_dense()
        self._random = self._own("random") if "random" in taken else None
        if self._random is not None:
            with naming(self.taken["random"].checkpoint, "random"):
                _checked_random(self._random)
        self._read_objects()
        self._tables = TablesAside(contents.tables, of_tables, slots=slots)
        self.fresh += self._tables.fresh
        self.ignored = self._tables.ignored

    def load_objects(self) -> Callable[[], None]:
        """Let objects load their states; returns what puts them back. If one raises, all are put back first."""
        before: list[tuple[Load, Any]] = []
        with uninterrupted():
            try:
                for now, load, state in self._loads:
                    before.append((load, _copied(now())))
                    load(state)
            except BaseException as error:
                _put_back(before, error)
                raise
        return lambda: _put_back(before, None)

    @without_gradients
    def commit(self) -> None:
        """Put tables, parameters and random numbers in place."""
        with uninterrupted():
            self._tables.commit()
            for mine, saved in self._dense:
                mine.copy_(saved)
            if self._random is not None:
                set_random_state(self._random)

    # Dense parameters

    def _read_dense(self) -> list[tuple[Tensor, Tensor]]:
        mine, pairs = self.contents.dense(), []
        by_checkpoint: dict[Checkpoint, dict[str, str]] = {}
        for name, taken in self.taken.items():
            if name.startswith("dense/"):
                names = by_checkpoint.setdefault(taken.checkpoint, {})
                names[name.removeprefix("dense/")] = taken.name.removeprefix("dense/")
        for checkpoint, names in by_checkpoint.items():
            saved = checkpoint.part("dense")
            with naming(checkpoint, "dense"):
                for here, there in names.items():
                    _check_alike(here, mine[here], saved[there])
            blocks = read_wanted(checkpoint, "dense", [(mine[here], saved[there]) for here, there in names.items()])
            pairs += [(mine[here], blocks(mine[here], saved[there])) for here, there in names.items()]
        return pairs

    # What loads by itself

    def _read_objects(self) -> None:
        contents = self.contents
        for side, optimizer in contents.sides.items():
            if f"optimizer/{side}" in self.taken:
                self._read_optimizer(side, optimizer)
        if "features" in self.taken:
            saved = self.taken["features"].checkpoint.part("features")
            mine = contents.features
            self._loads.append((mine.get_extra_state, mine.set_extra_state, saved["definition"]))
        for kind, objects in (("schedulers", contents.schedulers), ("extra", contents.extra)):
            for name, each in objects.items():
                if (taken := self.taken.get(f"{kind}/{name}")) is not None:
                    state = taken.checkpoint.part(kind)[taken.name.removeprefix(f"{kind}/")]
                    self._loads.append((each.state_dict, each.load_state_dict, state))
        if "data" in self.taken:
            self._loads.append((contents.data.state_dict, contents.data.load_state_dict, self._own("data")))

    def _own(self, part: str) -> Any:
        """This rank's own part; positions of data of another world are all handed out, random numbers in turn."""
        checkpoint = self.taken[part].checkpoint
        ranks = by_rank(checkpoint.parts, part)
        if part == "data" and len(ranks) != self.world:
            return [checkpoint.part(name) for name in ranks]
        return checkpoint.part(ranks[min(self.rank, len(ranks) - 1)])

    def _read_optimizer(self, side: str, optimizer: Any) -> None:
        taken = self.taken[f"optimizer/{side}"]
        state = taken.checkpoint.part("optimizer")[taken.name.removeprefix("optimizer/")]
        try:
            if isinstance(optimizer, SparseOptimizer):
                state = self._of_tables_here(optimizer, state)
                optimizer.read_state(state)
            else:
                check_dense(optimizer, state)
                state = _placed(optimizer, state, taken.checkpoint)
        except (ValueError, KeyError, TypeError) as error:
            self.fresh.append(f"optimizer/{side}")
            warnings.warn(f"The {side} optimizer starts anew: {error}", stacklevel=4)
            return
        self._loads.append((optimizer.state_dict, optimizer.load_state_dict, state))

    def _of_tables_here(self, optimizer: SparseOptimizer, saved: Any) -> Any:
        """The saved state, with t by the names of tables here; groups of other tables, and those of an import, which has no
        numbers, keep this optimizer's."""
        mine = optimizer.state_dict()
        there = {name.removeprefix("tables/"): t.name.removeprefix("tables/") for name, t in self.taken.items()}
        steps = {name: saved["t"].get(there.get(name, name), t) for name, t in mine["t"].items()}
        groups = saved["param_groups"]
        others = [list(group["tables"]) for group in groups] != [
            list(group["tables"]) for group in mine["param_groups"]
        ]
        if others or any("lr" not in group for group in groups):
            kinds = {group.get("kind") for group in (*groups, *mine["param_groups"])}
            if len(kinds) > 1:
                raise ValueError(f"the state is of another kind of optimizer, {groups[0].get('kind')!r}.")
            why = "for their tables are others" if others else "which it does not hold"
            self.fresh.append(f"optimizer/sparse: numbers of groups, {why}")
            groups = mine["param_groups"]
        return {"grad_accum_steps": mine["grad_accum_steps"], **saved, "t": steps, "param_groups": groups}


def _placed(optimizer: torch.optim.Optimizer, state: Any, checkpoint: Checkpoint) -> Any:
    """The state with slots placed as their parameters are; of sharded ones this rank's blocks are read."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    pairs = [(parameters[i], value) for i, slots in state["state"].items() for value in slots.values()]
    blocks = read_wanted(checkpoint, "optimizer", pairs)
    slots = {i: {name: blocks(parameters[i], v) for name, v in each.items()} for i, each in state["state"].items()}
    return {**state, "state": slots}


def _put_back(before: list[tuple[Load, Any]], failure: BaseException | None) -> None:
    """Load states of before, the last one first. One that cannot be loaded is a note of the failure."""
    for load, state in reversed(before):
        try:
            load(state)
        except Exception as error:
            if failure is None:
                raise
            failure.add_note(f"{getattr(load, '__qualname__', load)} could not be put back: {error}")


def _checked_random(state: Any) -> None:
    try:
        check_random(state)
    except RuntimeError as error:
        raise ValueError(f"it holds no states of generators: {error}") from error


def _check_alike(name: str, mine: Tensor, saved: Any) -> None:
    dtype = DTYPES[saved.dtype] if isinstance(saved, Sharded) else getattr(saved, "dtype", None)
    if not isinstance(saved, Tensor | Sharded) or (tuple(saved.shape), dtype) != (tuple(mine.shape), mine.dtype):
        found = f"{dtype} {list(saved.shape)}" if isinstance(saved, Tensor | Sharded) else type(saved).__name__
        raise ValueError(f"{name} is {found}; the model wants {mine.dtype} {list(mine.shape)}.")


def _copied(tree: Any) -> Any:
    """A state that later changes of the object's tensors leave as it is."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, Mapping):
        return {name: _copied(value) for name, value in tree.items()}
    return type(tree)(map(_copied, tree)) if type(tree) in (list, tuple) else tree


def require_all(missing: list[str], ignored: list[str]) -> None:
    """Raises StateMismatch: a restore of everything wants the same tables, parameters and objects."""
    if missing or ignored:
        faults = [f"it lacks {', '.join(missing[:8])}"] * bool(missing)
        faults += [f"it has {', '.join(ignored[:8])}, which nothing here has"] * bool(ignored)
        raise StateMismatch(
            f"the checkpoint is of another run: {'; '.join(faults)}. To take a part, say restore(load=[…], exclude=[…], "
            "rename={…})."
        )
