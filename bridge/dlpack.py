"""torch ⇄ JAX on one memory, by DLPack.

Neither side may write to shared memory. JAX treats its arrays as constants; a torch write to a
tensor whose array is still in use races with JAX's threads (or stream). Donating a shared array to a
jit silently copies it: let JAX own what it updates in place, and give torch short views.
"""

from __future__ import annotations

from functools import cache

import jax
import torch
from torch import Tensor

from recis_core.bridge.errors import BridgeError
from recis_core.bridge.lifetime import guard

ALIGNMENT = 64  # bytes; XLA refuses, or copies, what starts elsewhere

# What both sides know by one name, and that came through unchanged when tried.
_NARROW = frozenset(
    {
        torch.float32,
        torch.float16,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.float8_e5m2,
        torch.complex64,
        torch.bool,
        torch.int8,
        torch.uint8,
        torch.int16,
        torch.uint16,
        torch.int32,
        torch.uint32,
    }
)
_WIDE = frozenset({torch.int64, torch.uint64, torch.float64, torch.complex128})
_FROM_JAX = frozenset(jax.numpy.dtype(str(dtype).removeprefix("torch.")) for dtype in _NARROW | _WIDE)


def to_jax(tensor: Tensor, *, copy: bool | None = None) -> jax.Array:
    """A torch tensor as a JAX array on the same device, of the same dtype and shape.

    Zero-copy where the memory is dense (contiguous, or contiguous up to an order of its
    dimensions) and starts at a multiple of 64 bytes, as what torch allocates does; a view such
    as x[1:] may not. The array keeps the memory alive.

    copy=None   shares the memory; copies (in torch, at once) only if the start is unaligned
    copy=False  shares the memory or raises
    copy=True   always copies, and takes any strides

    64-bit dtypes cross only where JAX has them: inside `with jax.enable_x64(True):`, or with that
    set for the whole process. Elsewhere JAX would narrow them in silence, and so would every jit
    that is given the array *after* the context has ended. Stay inside it for as long as the array is
    used, or send ids as pairs of uint32 by `ids_to_jax`.

    On CUDA JAX's stream is made to wait for torch's current one, without the host. Until the JAX
    programs reading the array are done the tensor must live (`recis_core.bridge.hold`) and not be written to.

    Args:
      tensor: on cpu or cuda; without gradient, conjugate or negative bit.

    Raises:
      TypeError: not a strided tensor, or a dtype or device that does not cross.
      BridgeError: the tensor would have to be copied, narrowed or cut off from its graph.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"to_jax takes a torch.Tensor; got {type(tensor).__name__}.")
    _check_kind(tensor)
    _check_views(tensor)
    if not copy:
        _check_dense(tensor)
    if copy or (copy is None and not is_aligned(tensor)):
        # Cloned here and not by JAX: its copy=True shares aligned memory all the same, and its copy
        # of unaligned memory runs later, beside whatever torch writes next (both seen on jax 0.10).
        tensor = tensor.clone(memory_format=torch.contiguous_format)
    if not is_aligned(tensor):
        raise BridgeError(
            f"with copy=False the memory must start at a multiple of {ALIGNMENT} bytes; got "
            f"{tensor.data_ptr() % ALIGNMENT} beyond one. Drop copy=False, or send tensor.clone()."
        )
    return jax.dlpack.from_dlpack(tensor)


def to_torch(array: jax.Array) -> Tensor:
    """A JAX array as a torch tensor on the same device: zero-copy, of the same dtype and shape.

    Waits for the array on the CPU; on CUDA torch's current stream waits for it, not the host. The
    tensor keeps the array alive, until torch's queued work has passed if on CUDA. Do not write to
    it (clone() first): JAX holds the array for constant. Drop it before the array is donated,
    or the donation copies and the tensor keeps the old values.

    Raises:
      TypeError: not a concrete JAX array, or a dtype torch lacks.
      BridgeError: the array was donated or deleted, or is spread over devices.
    """
    if not isinstance(array, jax.Array):
        raise TypeError(f"to_torch takes a jax.Array; got {type(array).__name__}.")
    if isinstance(array, jax.core.Tracer):
        raise TypeError(
            f"to_torch takes a concrete jax.Array; got the tracer {array}. Call it outside jit, grad and vmap."
        )
    if array.is_deleted():
        raise BridgeError("to_torch needs a live array; this one was deleted or donated. Use what the jit returned.")
    if len(array.devices()) != 1:
        raise BridgeError(
            f"to_torch needs an array on one device; got one over {len(array.devices())}. "
            "Send each array.addressable_shards[i].data, or jax.device_put it on one device."
        )
    if array.dtype not in _FROM_JAX:
        raise TypeError(f"a {array.dtype} array has no counterpart in torch. Convert it: array.astype(jnp.float32).")
    tensor = torch.from_dlpack(array)
    if tensor.is_cuda:
        guard(tensor, array)
    return tensor


def ids_to_jax(ids: Tensor, *, copy: bool | None = None) -> jax.Array:
    """64-bit ids as JAX can hold them without x64: uint32 [N, 2], each id's low and high word.

    ids: int64 or uint64 [..., N], read in order as one run. `copy` as in to_jax, so zero-copy for
    contiguous, aligned ids. `ids_to_torch` is the inverse.

    Raises:
      TypeError: ids are not 64-bit integers.
      BridgeError: as to_jax.
    """
    if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.uint64):
        raise TypeError(f"ids must be an int64 or uint64 tensor; got {getattr(ids, 'dtype', type(ids).__name__)}.")
    if copy:
        ids, copy = ids.clone(memory_format=torch.contiguous_format), None
    if not ids.is_contiguous():
        raise BridgeError(f"ids must be contiguous; got strides {list(ids.stride())}. Pass copy=True.")
    return to_jax(ids.view(-1).view(torch.uint32).view(-1, 2), copy=copy)


def ids_to_torch(words: jax.Array) -> Tensor:
    """int64 [N] ids from their uint32 [N, 2] low and high words; zero-copy, as to_torch.

    Raises:
      ValueError: words are not uint32 [N, 2].
    """
    if words.dtype != "uint32" or words.ndim != 2 or words.shape[1] != 2:
        raise ValueError(f"words must be uint32 [N, 2]; got {words.dtype} {list(words.shape)}.")
    return to_torch(words).contiguous().view(torch.int64).view(-1)


def is_aligned(tensor: Tensor) -> bool:
    """Whether the tensor starts where JAX can share its memory."""
    return tensor.data_ptr() % ALIGNMENT == 0


def is_dense(tensor: Tensor) -> bool:
    """Whether the elements lie without gap or overlap, in any order of the dimensions."""
    if tensor.is_contiguous() or tensor.numel() == 0:
        return True
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(tensor.stride(), tensor.shape, strict=True) if n > 1):
        if stride != expected:
            return False
        expected *= size
    return True


def is_wide(dtype: torch.dtype) -> bool:
    """Whether JAX has the dtype only under x64."""
    return dtype in _WIDE


def _check_kind(tensor: Tensor) -> None:
    if tensor.layout is not torch.strided:
        raise TypeError(f"to_jax takes strided tensors; got layout {tensor.layout}. Send its parts, or to_dense().")
    if tensor.device.type not in ("cpu", "cuda"):
        raise TypeError(f"to_jax takes tensors on cpu or cuda; got {tensor.device}. Move it first: tensor.cpu().")
    if tensor.dtype not in _NARROW and tensor.dtype not in _WIDE:
        raise TypeError(f"{tensor.dtype} has no counterpart in JAX. Convert it, or send tensor.view(torch.uint8).")
    if tensor.is_cuda and not _jax_has_cuda():
        raise BridgeError(
            f"a tensor on {tensor.device} needs a JAX that sees CUDA; jax.devices() gives {jax.devices()}. "
            "Install jax[cuda13], or send tensor.cpu()."
        )
    if tensor.dtype in _WIDE and not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        raise BridgeError(
            f"{tensor.dtype} would be narrowed by JAX without x64. Cross and compute inside "
            "`with jax.enable_x64(True):`, send ids by recis_core.bridge.ids_to_jax, or convert the tensor to 32 bits."
        )


def _check_views(tensor: Tensor) -> None:
    if tensor.requires_grad:
        raise BridgeError(
            "a tensor that requires grad would lose its graph. Send tensor.detach(), "
            "or wrap the JAX function in recis_core.bridge.jax_function, which carries gradients."
        )
    if tensor.is_conj():
        raise BridgeError("the tensor is a lazy conjugate; its memory holds other values. Send tensor.resolve_conj().")
    if tensor.is_neg():
        # torch exports a negative view without an error, and its signs are lost.
        raise BridgeError("the tensor is a lazy negative; its memory holds other signs. Send tensor.resolve_neg().")


def _check_dense(tensor: Tensor) -> None:
    if not is_dense(tensor):
        raise BridgeError(
            f"JAX takes memory without gaps; got shape {list(tensor.shape)} with strides {list(tensor.stride())}. "
            "Pass copy=True, or send tensor.contiguous()."
        )


@cache
def _jax_has_cuda() -> bool:
    return any(device.platform == "gpu" for device in jax.devices())
