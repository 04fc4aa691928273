"""Sixteen float32 columns of a row at a time, as one vector value in compiled code.

Plain loops over columns are vectorised only where LLVM can prove, or cheaply test, that the arrays of a row do not
overlap; with weights and optimizer slots it often cannot, and the loop runs three to five times slower. Here
sums stay in registers, too. Each column is added up by itself: nothing changes the order of a sum.
Weights stored as bfloat16 (uint16 bits) are widened as they are loaded.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, overload, register_model

LANES = 16
WORD = ir.IntType(32)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
HALVES = ir.VectorType(ir.IntType(16), LANES)
DOUBLES = ir.VectorType(ir.DoubleType(), LANES)
WORDS = ir.VectorType(WORD, LANES)
MASKS = ir.VectorType(ir.IntType(1), LANES)


class LanesType(types.Type):
    """The type of such a vector."""

    def __init__(self) -> None:
        super().__init__("Lanes")


lanes_type = LanesType()


@register_model(LanesType)
class LanesModel(models.PrimitiveModel):
    """A vector register, or several, as the processor has them."""

    def __init__(self, manager: Any, kind: LanesType) -> None:
        super().__init__(manager, kind, FLOATS)


def _stored(array: Any) -> ir.VectorType:
    return HALVES if array.dtype == types.uint16 else FLOATS


def _address(context: Any, builder: Any, array_type: Any, array: Any, position: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [position]), _stored(array_type).as_pointer())


def _widened(builder: Any, vector: Any) -> Any:
    if vector.type == FLOATS:
        return vector
    sixteen = ir.Constant(WORDS, [16] * LANES)
    return builder.bitcast(builder.shl(builder.zext(vector, WORDS), sixteen), FLOATS)


def _spread(builder: Any, value: Any, kind: ir.VectorType) -> Any:
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(WORDS, [0] * LANES))


def _mask(builder: Any, count: Any) -> Any:
    numbers = ir.Constant(WORDS, list(range(LANES)))
    return builder.icmp_signed("<", numbers, _spread(builder, builder.trunc(count, WORD), WORDS))


def _is_whole(builder: Any, count: Any) -> Any:
    return builder.icmp_signed(">=", count, ir.Constant(count.type, LANES))


@intrinsic
def load(typing_context, array, position, count):  # type: ignore[no-untyped-def]
    """Columns from a contiguous array's flat position on; lanes from `count` on are 0."""
    size = array.dtype.bitwidth // 8

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        stored = _stored(signature.args[0])
        address = _address(context, builder, signature.args[0], *arguments[:2])
        kind = ir.FunctionType(stored, [stored.as_pointer(), WORD, MASKS, stored])
        name = "llvm.masked.load.v16i16.p0" if stored == HALVES else "llvm.masked.load.v16f32.p0"
        masked_load = cgutils.get_or_insert_function(builder.module, kind, name)
        loaded = cgutils.alloca_once(builder, stored)
        with builder.if_else(_is_whole(builder, arguments[2]), likely=True) as (whole, part):
            with whole:
                builder.store(builder.load(address, align=size), loaded)
            with part:
                mask, zeros = _mask(builder, arguments[2]), ir.Constant(stored, None)
                builder.store(builder.call(masked_load, [address, ir.Constant(WORD, size), mask, zeros]), loaded)
        return _widened(builder, builder.load(loaded))

    return lanes_type(array, types.int64, types.int64), generate


def _generate_store(
    context: Any, builder: Any, array_type: Any, array: Any, position: Any, count: Any, lanes: Any
) -> None:
    address = _address(context, builder, array_type, array, position)
    kind = ir.FunctionType(ir.VoidType(), [FLOATS, FLOATS.as_pointer(), WORD, MASKS])
    masked_store = cgutils.get_or_insert_function(builder.module, kind, "llvm.masked.store.v16f32.p0")
    with builder.if_else(_is_whole(builder, count), likely=True) as (whole, part):
        with whole:
            builder.store(lanes, address, align=4)
        with part:
            builder.call(masked_store, [lanes, address, ir.Constant(WORD, 4), _mask(builder, count)])


@intrinsic
def store(typing_context, array, position, count, lanes):  # type: ignore[no-untyped-def]
    """The first `count` lanes into a contiguous float32 array, from a flat position on."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _generate_store(context, builder, signature.args[0], *arguments)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, lanes), generate


@intrinsic
def put(typing_context, weights, at, fresh, to, count, lanes):  # type: ignore[no-untyped-def]
    """New weights into the table where it is float32, else into `fresh`."""
    in_place = weights.dtype == types.float32

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        array, position = (0, 1) if in_place else (2, 3)
        _generate_store(context, builder, signature.args[array], arguments[array], arguments[position], *arguments[4:])
        return context.get_dummy_value()

    return types.void(weights, types.int64, fresh, types.int64, types.int64, lanes), generate


@intrinsic
def spread(typing_context, value):  # type: ignore[no-untyped-def]
    """One float32 in every lane."""
    return lanes_type(types.float32), lambda context, builder, signature, arguments: _spread(
        builder, arguments[0], FLOATS
    )


@intrinsic
def square_root(typing_context, lanes):  # type: ignore[no-untyped-def]
    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        kind = ir.FunctionType(FLOATS, [FLOATS])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.sqrt.v16f32")
        return builder.call(call, arguments)

    return lanes_type(lanes), generate


@intrinsic
def zero_as_infinite(typing_context, lanes):  # type: ignore[no-untyped-def]
    """For a divisor, so that a quotient by 0 is 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        zeros, infinite = ir.Constant(FLOATS, [0.0] * LANES), ir.Constant(FLOATS, [float("inf")] * LANES)
        return builder.select(builder.fcmp_ordered("==", arguments[0], zeros), infinite, arguments[0])

    return lanes_type(lanes), generate


@intrinsic
def sum_lanes(typing_context, lanes):  # type: ignore[no-untyped-def]
    """In order, from the first to the last."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        total = ir.Constant(ir.FloatType(), 0.0)
        for lane in range(LANES):
            total = builder.fadd(total, builder.extract_element(arguments[0], ir.Constant(WORD, lane)))
        return total

    return types.float32(lanes), generate


@intrinsic
def add_squares(typing_context, totals, position, lanes):  # type: ignore[no-untyped-def]
    """totals[position + lane] += lanes², in float64; all 16 lanes, so totals are that wide."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), DOUBLES.as_pointer())
        exact = builder.fpext(arguments[2], DOUBLES)
        total = builder.fadd(builder.load(address, align=8), builder.fmul(exact, exact))
        builder.store(total, address, align=8)
        return context.get_dummy_value()

    return types.void(totals, types.int64, lanes), generate


def _operation(name: str) -> Any:
    @intrinsic
    def operation(typing_context, x, y):  # type: ignore[no-untyped-def]
        return lanes_type(x, y), lambda context, builder, signature, arguments: getattr(builder, name)(*arguments)

    return operation


_add, _subtract, _multiply, _divide = map(_operation, ("fadd", "fsub", "fmul", "fdiv"))


def _both_lanes(x: Any, y: Any) -> bool:
    return isinstance(x, LanesType) and isinstance(y, LanesType)


@overload(operator.add)
def _overload_add(x, y):  # type: ignore[no-untyped-def]
    return (lambda x, y: _add(x, y)) if _both_lanes(x, y) else None


@overload(operator.sub)
def _overload_sub(x, y):  # type: ignore[no-untyped-def]
    return (lambda x, y: _subtract(x, y)) if _both_lanes(x, y) else None


@overload(operator.mul)
def _overload_mul(x, y):  # type: ignore[no-untyped-def]
    return (lambda x, y: _multiply(x, y)) if _both_lanes(x, y) else None


@overload(operator.truediv)
def _overload_truediv(x, y):  # type: ignore[no-untyped-def]
    return (lambda x, y: _divide(x, y)) if _both_lanes(x, y) else None
