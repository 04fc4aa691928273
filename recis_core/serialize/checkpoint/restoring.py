"""A restore: all that is taken is read and checked first, then put in place at once."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from recis_core.backends.errors import StateMismatch
from recis_core.optim.optimizer_state import check_dense
from recis_core.optim.sparse_optimizer import SparseOptimizer
from recis_core.plain_torch import without_gradients
from recis_core.serialize.checkpoint.contents import Contents, check_random, set_random_state
from recis_core.serialize.checkpoint.selection import Taken
from recis_core.serialize.checkpoint.tables_aside import TablesAside
from recis_core.serialize.dense import as_placed
from recis_core.serialize.parts import naming
from recis_core.serialize.shared_state import by_rank
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
      taken: {name here: thing of a checkpoint}. rank, world: of this process.

    Raises:
      StateMismatch: something does not fit. CorruptCheckpoint.
    """

    def __init__(self, contents: Contents, taken: Mapping[str, Taken], rank: int, world: int) -> None:
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
        self._tables = TablesAside(contents.tables, of_tables)
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
                mine.copy_(as_placed(mine, saved))
            if self._random is not None:
                set_random_state(self._random)

    # Dense parameters

    def _read_dense(self) -> list[tuple[Tensor, Tensor]]:
        mine, pairs = self.contents.dense(), []
        wanted = [name for name in self.taken if name.startswith("dense/")]
        parts = {checkpoint: checkpoint.part("dense") for checkpoint in {self.taken[n].checkpoint for n in wanted}}
        for name in wanted:
            here, there = name.removeprefix("dense/"), self.taken[name]
            saved = parts[there.checkpoint][there.name.removeprefix("dense/")]
            with naming(there.checkpoint, "dense"):
                _check_alike(here, mine[here], saved)
            pairs.append((mine[here], saved))
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
        except (ValueError, KeyError, TypeError) as error:
            self.fresh.append(f"optimizer/{side}")
            warnings.warn(f"The {side} optimizer starts anew: {error}", stacklevel=4)
            return
        self._loads.append((optimizer.state_dict, optimizer.load_state_dict, state))

    def _of_tables_here(self, optimizer: SparseOptimizer, saved: Any) -> Any:
        """The saved state, with t by the names of tables here; groups of other tables keep this optimizer's numbers."""
        mine = optimizer.state_dict()
        there = {name.removeprefix("tables/"): t.name.removeprefix("tables/") for name, t in self.taken.items()}
        steps = {name: saved["t"].get(there.get(name, name), t) for name, t in mine["t"].items()}
        groups = saved["param_groups"]
        if [list(group["tables"]) for group in groups] != [list(group["tables"]) for group in mine["param_groups"]]:
            kinds = {group.get("kind") for group in (*groups, *mine["param_groups"])}
            if len(kinds) > 1:
                raise ValueError(f"the state is of another kind of optimizer, {groups[0].get('kind')!r}.")
            self.fresh.append("optimizer/sparse: numbers of groups, for their tables are others")
            groups = mine["param_groups"]
        return {**saved, "t": steps, "param_groups": groups}


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
    if not isinstance(saved, Tensor) or (saved.shape, saved.dtype) != (mine.shape, mine.dtype):
        found = f"{saved.dtype} {list(saved.shape)}" if isinstance(saved, Tensor) else type(saved).__name__
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
