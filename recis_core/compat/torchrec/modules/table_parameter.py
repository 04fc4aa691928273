"""The parameter that stands for a table's rows, so that model.parameters() names them to optimizers.

Sizes: n rows, D dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from recis_core.backends.errors import RecisError
from recis_core.optim.gradient_handle import GradientHandle, RowsGradient

if TYPE_CHECKING:
    from recis_core.nn.hash_table import HashTable

SHAPES = {"size", "dim", "ndimension", "numel", "nelement", "element_size", "stride", "storage_offset", "__len__"}
SHAPES |= {"is_floating_point", "is_complex", "is_contiguous", "get_device"}
OPTIMIZERS = (
    "Give it one whose step knows tables: before the first forward apply_optimizer_in_backward(torch.optim.SGD, "
    "ebc.parameters(), {'lr': …}), or for a step of its own KeyedOptimizerWrapper(dict(model.named_parameters()), "
    "lambda params: torch.optim.SGD(params, lr=…)), both of recis_core.compat.torchrec.optim."
)


class TableParameter(nn.Parameter):
    """[n, D] in shape alone: the rows are in the table, some on other ranks or not made yet, and no operation reads them here.

    `.grad` is None, or what stands for the rows' gradient: a scaler can scale it in place, clip_grad_norm_ sees its norm.
    """

    stands_for_rows = True  # states of dense parameters leave it out
    table: HashTable
    dynamic: bool
    _own: GradientHandle

    def __new__(cls, table: HashTable, rows: int, dynamic: bool) -> TableParameter:
        one = torch.zeros(1, dtype=table.option.dtype, device=table.physical.device)
        made: TableParameter = torch.Tensor._make_subclass(cls, one.expand(rows, table.dim), True)
        made.table, made.dynamic, made._own = table, dynamic, _handle_of(table)
        return made

    def __init__(self, *_: object) -> None:
        super().__init__()

    @property
    def is_whole(self) -> bool:
        """Whether states hold the table as one tensor, as TorchRec's do: the rows are known, and all on this rank."""
        return not self.dynamic and self.table.physical.exchange is None

    @property
    def has_optimizer(self) -> bool:
        return self.table.physical.optimizer is not None

    @property
    def _handle(self) -> GradientHandle | None:
        """That of the optimizer's group, once, if the group has several tables; the table's own without an optimizer."""
        optimizer: Any = self.table.physical.optimizer
        if optimizer is None:
            return self._own
        names, handle = next(
            (g["tables"], g["params"][0]) for g in optimizer.param_groups if self.table.name in g["tables"]
        )
        return handle if names[0] == self.table.name else None

    @property
    def requires_grad(self) -> bool:
        return self.table.requires_grad

    @requires_grad.setter
    def requires_grad(self, requires_grad: bool) -> None:
        self.table.requires_grad = requires_grad

    def requires_grad_(self, requires_grad: bool = True) -> TableParameter:
        self.table.requires_grad = requires_grad
        return self

    @property
    def grad(self) -> Tensor | None:
        handle = self._handle
        found = None if handle is None else handle.grad
        if found is None or self.has_optimizer:
            return found
        return WaitingGradient.of(found, self.table.name)

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if (handle := self._handle) is not None:
            handle.grad = value

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(function, "__name__", str(function))
        read = getattr(getattr(function, "__self__", None), "__name__", name)  # of an attribute its name
        with torch._C.DisableTorchFunctionSubclass():
            if name == "full_like":  # of optimizers that make their state at once, which a table keeps itself
                return torch.full((1,), args[1] if len(args) > 1 else (kwargs or {})["fill_value"]).expand(
                    args[0].shape
                )
            if name == "view_as":  # of torch's _apply_optimizer_in_backward, which asks for the node behind
                return function(*args, **(kwargs or {}))
            if name in SHAPES or name == "__get__":
                result = function(*args, **(kwargs or {}))
                if not isinstance(result, Tensor):
                    return result
        raise RecisError(
            f"{read} would need the rows of a table, which are not in its parameter. Read them by state_dict(), or by "
            "ebc.embedding_bags[name].table.lookup(ids); write them by load_state_dict(). In place of "
            f"DistributedDataParallel take DistributedModelParallel. An optimizer? {OPTIMIZERS}"
        )

    def __deepcopy__(self, memo: Any) -> NoReturn:
        self.table.__deepcopy__(memo)

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        self.table.__reduce_ex__(protocol)

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"TableParameter of {self.table.name!r}, {list(self.shape)}"


class WaitingGradient(RowsGradient):
    """The gradient of a table that no optimizer has: plain optimizers are refused before they change anything."""

    table: str

    @classmethod
    def of(cls, gradient: Tensor, table: str) -> WaitingGradient:
        norm: Callable[[], float] = gradient.rows_norm  # type: ignore[attr-defined]
        waiting = gradient.as_subclass(Tensor).as_subclass(cls)
        waiting.rows_norm, waiting.table = norm, table
        return waiting

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function == Tensor.is_sparse.__get__:  # type: ignore[attr-defined] # which torch's optimizers read before a step
            raise RecisError(f"table {args[0].table!r} has a gradient, and no optimizer that can step it. {OPTIMIZERS}")
        return super().__torch_function__(function, types, args, kwargs)


def _handle_of(table: HashTable) -> GradientHandle:
    """That of a table without an optimizer. Dropping takes along the gradients of tables in the same storage."""

    def norm() -> float:
        return float(table.grad()[1].norm())

    return GradientHandle(table.physical.flags, norm, table.physical.discard, table.physical.device)
