"""The Pallas backend's programs at the shapes of a real table, each with the kernels that it must hold.

Sizes: N ids, B bags, D dim, T logical tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from recis_core.backends.jax_backend import embed, erase, gradient, stages
from recis_core.backends.jax_backend.new_rows import write_initial
from recis_core.backends.jax_backend.seek import Manner, New, Sought
from recis_core.backends.pallas_backend.pallas_loops import pallas_loops
from recis_core.backends.spec import RULES, UpdateRule
from recis_core.pallas_kernels.kernel import Program, shape
from tests import step_programs
from tests.step_programs import B, D, N, T, f32, i32, u32

ROWS = 700_000
KERNELS = pallas_loops(False)
CONTROL = i32(2 + 1 + 2 * T)
IDS, ORDINALS = u32(N, 2), i32(N)
SLOTS = {"sgd": (), "adam": ("m", "v"), "adagrad": ("s",), "rowwise_adagrad": ("s",)}
INSERT = {"free_kernel", "ask_kernel", "settle_kernel", "write_kernel"}  # write_kernel is dedup's, too
DEDUP = {"count_kernel", "write_kernel"}
SUM = {"pool_kernel", "segment_kernel"}


class Stage(NamedTuple):
    program: Program
    kernels: set[str]


def stage(name: str, f: Callable[..., Any], *shapes: Any, kernels: set[str], donated: tuple[int, ...] = ()) -> Stage:
    return Stage(Program(name, f, shapes, donated), kernels)


def embed_plan(combiner: str, *, weights: bool = False, tile_len: int | None = None) -> embed.Plan:
    plan = step_programs.plan(KERNELS)
    return replace(plan, poolings=(embed.Pooling(combiner, tile_len, N, weights_need_grad=weights),))


def forward() -> Iterator[Stage]:
    index, weights, slots, constants = step_programs.table(ROWS)
    call = partial(embed.embed_call, plan=step_programs.plan(KERNELS))
    found = {"touch_kernel", "pool_kernel"} | INSERT | DEDUP
    yield stage("embed", call, *step_programs.embed_shapes(ROWS), kernels=found, donated=(0, 1, 2))
    index_plan = step_programs.plan(KERNELS).index_plan
    for name, kernels, how in (
        ("seek, evicting", {"touch_kernel", "victims_kernel"} | INSERT | DEDUP, {"evict": True}),
        ("seek, scored by touches", {"probe_kernel"} | INSERT | DEDUP, {"counts": True}),
        ("seek, eval", {"probe_kernel"} | DEDUP, {"insert": False, "touch": False}),
    ):
        seek = partial(
            embed.seek_call, index_plan=replace(index_plan, manner=replace(index_plan.manner, **how)), loops=KERNELS
        )
        yield stage(
            name, seek, index, constants, IDS, CONTROL, kernels=kernels, donated=(0,) if "insert" not in how else ()
        )
    sought = Sought(i32(N), None, None, None, i32(10))
    index_plan = replace(index_plan, manner=Manner(insert=False, touch=False, evict=False, counts=False))
    plan = replace(embed_plan("sqrtn"), index_plan=index_plan, learns=False, unknown_initial=True)
    eval_ = partial(embed.pool_call, plan=plan)
    yield stage(
        "pool, eval", eval_, weights, constants, sought, IDS, CONTROL, step_programs.bags(), kernels={"pool_kernel"}
    )
    new = New(embed.Keys(u32(N), u32(N), u32(N)), i32(N), i32())
    begin = partial(write_initial, slot_initials=(0.0, 0.0))
    yield stage("write_initial", begin, weights, slots, constants, new, kernels=set(), donated=(0, 1))


def backward() -> Iterator[Stage]:
    kept, bags, grads = step_programs.embed_grad_shapes()
    for combiner, weights in (("mean", False), ("sqrtn", True), ("none", True), ("tile", True)):
        tile_len = 3 if combiner == "tile" else None
        plan = embed_plan(combiner, weights=weights, tile_len=tile_len)
        values = f32(N, D) if weights else None
        grads = (f32({"none": N}.get(combiner, B), D * (tile_len or 1)),)
        call, kernels = partial(embed.embed_grad_call, plan=plan), SUM | ({"row_dot_kernel"} if weights else set())
        yield stage(f"embed_grad {combiner}", call, kept._replace(values=values), bags, grads, kernels=kernels)
    summed = gradient_of()
    yield stage("combine", partial(gradient.combine, loops=KERNELS), (summed, summed), kernels=SUM)
    yield stage("by_occurrence", gradient.by_occurrence, summed, kernels=set())
    yield stage("measure", gradient.measure, summed, kernels=set())


def gradient_of() -> gradient.KeyedGradient:
    return gradient.KeyedGradient(u32(N), u32(N), i32(N), i32(N), f32(N, D), i32(N), i32())


def updates() -> Iterator[Stage]:
    _, weights, _, constants = step_programs.table(ROWS)
    for kind, slots in SLOTS.items():
        for dtype in ("float32", "bfloat16"):
            held = shape(dtype, *weights.shape), tuple(f32(weights.shape[0], _width(kind)) for _ in slots)
            numbers = (gradient_of(), constants, f32(T, len(RULES[kind])), f32(), i32(T))
            f = partial(stages.update, rule=UpdateRule(kind, slots), loops=KERNELS)
            yield stage(f"update {kind} {dtype}", f, *held, *numbers, kernels={"update_kernel"}, donated=(0, 1))


def _width(kind: str) -> int:
    return 1 if kind == "rowwise_adagrad" else D


def one_by_one() -> Iterator[Stage]:
    """The contract's stages as calls of their own."""
    index, weights, _, constants = step_programs.table(ROWS)
    yield stage("partition", partial(stages.partition, loops=KERNELS), IDS, ORDINALS, i32(), constants, kernels=DEDUP)
    manner = Manner(insert=True, touch=True, evict=False, counts=False, repeats=False)
    look = partial(stages.lookup, manner=manner, loops=KERNELS)
    kernels = {"touch_kernel"} | INSERT | DEDUP
    yield stage("lookup", look, index, constants, IDS, ORDINALS, i32(3), kernels=kernels, donated=(0,))
    gather = partial(stages.gather, unknown_initial=True, loops=KERNELS)
    yield stage("gather", gather, weights, i32(N), IDS, ORDINALS, constants, kernels={"pool_kernel"})
    bags, pooling = step_programs.bags()[0], embed.Pooling("mean", None, N, weights_need_grad=True)
    pool = partial(stages.pool, pooling=pooling, loops=KERNELS)
    yield stage("pool", pool, f32(N, D), i32(N), bags, kernels={"pool_kernel"})
    grad = partial(stages.pool_grad, pooling=pooling, loops=KERNELS)
    yield stage("pool_grad", grad, f32(B, D), f32(N, D), i32(N), bags, kernels=SUM | {"row_dot_kernel"})
    forget = partial(erase.erase, loops=KERNELS)
    yield stage("erase", forget, index, constants, IDS, ORDINALS, i32(), kernels={"probe_kernel"}, donated=(0,))


STAGES = {each.program.label: each for part in (forward, backward, updates, one_by_one) for each in part()}
