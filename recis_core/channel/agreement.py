"""Before any payload moves, ranks compare which call they are in; all go on, or all raise.

The first message of every collective is one line of int64 from each rank to each other: kind of call, number of the
call, number of the engine, a digest of what the call is about, whether this rank failed; then counts for the rank that
gets the line; last a wish (RankGroup.wish), which is no part of the call. The line has one width for all calls of all
engines on a process group, so that ranks in different calls still meet.

Every rank reads every other's line. So after an ExchangeMismatch all have made equally many agreements, and a refused
call has changed no number that decides whether a later one communicates: ranks go on from there as if it had not been.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from recis_core.backends.errors import ExchangeMismatch

CALLS = {
    "engine": "making an engine or a table",
    "plan": "making an engine or a table (its plan)",
    "forward": "a training forward",
    "eval": "a forward in eval",
    "rows": "a forward (its rows)",
    "flags": "asking whether gradients are finite (unscale, a handle's .grad)",
    "sync": "the exchange of gradients (step, clip_grad_norm_ or sync_gradients)",
    "gradients": "sending gradients (step, clip_grad_norm_ or sync_gradients)",
    "norm": "step",
    "clip": "clip_grad_norm_ (or another norm of gradients)",
    "step": "step, without a gradient",
    "hot rows": "choosing hot rows (a forward)",
    "refresh": "refreshing hot rows (a forward)",
    "digest": "tables_sha256",
    "state_dict": "a full state_dict (get_model_state_dict)",
    "pending": "a snapshot of tables (snapshot_tables)",
    "save": "save_shared_state",
    "latest": "latest_shared_state",
    "load": "load_tables (of load_model, or alone)",
    "load_model": "load_model",
    "resume": "loading a saved state",
    "load_state_dict": "load_state_dict of a table",
    "clear": "clear() of a table",
    "len": "len() of a table",
    "lookup": "lookup() of a table, or `in` it",
    "erase": "erase() of a table",
    "in_step": "in_step",
    "global_mean": "global_mean",
    "gather": "gathering results",
    "log": "the log of a training loop",
    "evaluate": "evaluate",
    "report": "the report at the end of a run",
    "batches": "the reading of a Trainer's batches",
    "trained": "the end of a Trainer's step",
    "hook": "a hook of a run",
}
KINDS = tuple(CALLS)
HEAD = 5


def disagreement(lines: Sequence[Sequence[int]], rank: int, here: Callable[[], str]) -> ExchangeMismatch:
    """The error of rank `rank`, where another one failed or the heads of all ranks' lines differ."""
    failed = [p for p, line in enumerate(lines) if line[4]]
    if not failed:
        return ExchangeMismatch(f"ranks are in different calls: {_calls(lines)}.{_apart(lines, here)}")
    where = "; ".join(f"rank {p} in {_call(lines[p])}" for p in failed)
    error = ExchangeMismatch(
        f"rank(s) {failed} raised an error before this call could move any row; see there ({where}; "
        f"rank {rank}, here, in {_call(lines[rank])}). No table was changed here by this call."
    )
    error.failed = failed  # type: ignore[attr-defined]
    return error


def _call(line: Sequence[int]) -> str:
    kind, number, engine = line[:3]
    return f"{CALLS[KINDS[kind]]} (call {number}{f', engine {engine}' if engine else ''})"


def _calls(lines: Sequence[Sequence[int]]) -> str:
    """Each call and the ranks in it."""
    by_call: dict[str, list[int]] = {}
    for rank, line in enumerate(lines):
        by_call.setdefault(_call(line), []).append(rank)
    return ", ".join(f"rank{'s' * (len(p) > 1)} {', '.join(map(str, p))} in {call}" for call, p in by_call.items())


def _apart(lines: Sequence[Sequence[int]], here: Callable[[], str]) -> str:
    same_call = len({tuple(line[:3]) for line in lines}) == 1
    what = f" {here()}".rstrip() if same_call else ""
    differs = f" They ask different tables, modes or precisions, or are at different steps.{what}" if same_call else ""
    return (
        f"{differs} Every rank must run the same forwards, steps, norms and saves in one order, in eval too; a rank "
        "without data runs empty batches (recis_core.exchange.in_step). Nothing of this call was done on any rank: "
        "repeat the same call on all, or zero_grad() on all and go on with the next batch."
    )
