"""The dense side of a model in a saved state, with any wrapper of the model: DDP, FSDP2, torch.compile."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from recis_core.plain_torch import without_gradients

WRAPPERS = {"module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module"}


def dense_state(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, without tables, and without parameters that only stand for rows of a table."""
    buffers = {
        f"{prefix}.{name}" if prefix else name: buffer
        for prefix, module in model.named_modules()
        for name, buffer in module.named_buffers(recurse=False)
        if name not in module._non_persistent_buffers_set
    }
    parameters = {n: p for n, p in model.named_parameters() if not getattr(p, "stands_for_rows", False)}
    return parameters | buffers


def check_dense_state(model: nn.Module, dense: Any) -> None:
    """Raises ValueError unless names, dtypes and shapes are the model's."""
    if not isinstance(dense, Mapping):
        raise ValueError(f"the saved dense state is a {type(dense).__name__}.")
    mine, dense = _by_plain_name(dense_state(model)), _by_plain_name(dense)
    lacking, foreign = sorted(set(mine) - set(dense)), sorted(map(str, set(dense) - set(mine)))
    apart = [
        f"{n}: {_form(dense[n])}, wanted {_form(t)}" for n, t in mine.items() if n in dense and not _alike(t, dense[n])
    ]
    if lacking or foreign or apart:
        faults = [f"it lacks {lacking[:5]}"] * bool(lacking) + [f"it has {foreign[:5]}"] * bool(foreign) + apart[:5]
        raise ValueError(f"the saved dense state does not fit this model at {len(faults)} places: {'; '.join(faults)}.")


def _alike(mine: Tensor, saved: Any) -> bool:
    return isinstance(saved, Tensor) and (saved.shape, saved.dtype) == (mine.shape, mine.dtype)


def _form(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


@without_gradients
def load_dense_state(model: nn.Module, dense: Mapping[str, Tensor]) -> None:
    """Raises ValueError unless the names, dtypes and shapes are the model's."""
    check_dense_state(model, dense)
    saved = _by_plain_name(dense)
    for name, value in _by_plain_name(dense_state(model)).items():
        value.copy_(as_placed(value, saved[name]))


def as_placed(mine: Tensor, saved: Tensor) -> Tensor:
    """The saved value for a parameter; of one that FSDP2 has sharded, this rank's part."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(mine, DTensor):
        return saved
    return distribute_tensor(saved.to(mine.device), mine.device_mesh, mine.placements, src_data_rank=None)


def plain_name(key: str) -> str:
    """The key without the parts that DDP, torch.compile, FSDP and checkpoint wrappers add."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def _by_plain_name(dense: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """By plain names; unchanged if two names would become one, as in a model with submodules of wrappers' names."""
    plain = {plain_name(name): value for name, value in dense.items() if isinstance(name, str)}
    return plain if len(plain) == len(dense) else dense
