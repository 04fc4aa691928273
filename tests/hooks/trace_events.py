"""Chrome's trace events, read as strictly as Perfetto's importer reads JSON: what it would drop or misplace is an error here.

Perfetto's trace processor itself is a binary that its Python package downloads at first use, which no test may.
"""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

PHASES = set("XBEbneiICMstfNDOPRpv(){}")  # of the trace event format
TIMELESS = set("M")
NANOSECOND = 1e-3  # Perfetto keeps whole nanoseconds of microseconds
METADATA = {
    "process_name",
    "process_labels",
    "process_sort_index",
    "thread_name",
    "thread_sort_index",
    "trace_buffer_overflowed",
}

Event = dict[str, Any]


def events(path: Path) -> list[Event]:
    """All events of a gzipped file. AssertionError says what Perfetto would not show, and where."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        whole = json.load(file, parse_constant=_no_json)
    assert isinstance(whole, dict), "wanted an object"
    assert isinstance(whole.get("traceEvents"), list), "wanted traceEvents"
    found = [event for event in whole["traceEvents"] if event]  # JAX ends its list with an empty one, which is skipped
    for event in found:
        check_event(event)
    check_nesting(found)
    check_pairs(found)
    check_flows(found)
    assert any(event["ph"] == "X" for event in found), "no slice"
    return found


def _no_json(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def check_event(event: Event) -> None:
    phase = str(event.get("ph"))
    assert phase in PHASES, f"no phase: {event}"
    assert all(type(event[key]) in (int, str) for key in ("pid", "tid") if key in event), f"pid or tid: {event}"
    assert "pid" in event or phase == "M", f"no pid: {event}"
    if phase not in TIMELESS:
        assert isinstance(event.get("name"), str) or phase in "Estf", f"no name: {event}"
        assert _number(event.get("ts")), f"no time: {event}"
    if phase == "X":
        assert "tid" in event, f"no thread: {event}"
        assert _number(event.get("dur")), f"no duration: {event}"
    if phase == "M":
        assert event.get("name") in METADATA, f"unknown metadata: {event}"
        assert event.get("args"), f"metadata without args: {event}"
    if phase == "C":
        assert all(isinstance(value, int | float) for value in event["args"].values()), f"a counter counts: {event}"


def _number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < 1e18


def check_nesting(found: list[Event]) -> None:
    """On a thread a slice lies inside another or beside it; Perfetto drops one that begins inside and ends outside."""
    threads: dict[Any, list[Event]] = defaultdict(list)
    for event in found:
        if event["ph"] == "X":
            threads[event["pid"], event["tid"]].append(event)
    for thread in threads.values():
        open_until: list[float] = []
        for event in sorted(thread, key=lambda event: (event["ts"], -event["dur"])):
            end = event["ts"] + event["dur"]
            while open_until and open_until[-1] <= event["ts"] + NANOSECOND:
                open_until.pop()
            assert not open_until or end <= open_until[-1] + NANOSECOND, f"overlaps without lying inside: {event}"
            open_until.append(end)


def check_pairs(found: list[Event]) -> None:
    """Each E ends a B of its thread."""
    depth: dict[Any, int] = defaultdict(int)
    for event in sorted((event for event in found if event["ph"] in "BE"), key=lambda event: event["ts"]):
        depth[event["pid"], event["tid"]] += 1 if event["ph"] == "B" else -1
        assert depth[event["pid"], event["tid"]] >= 0, f"ends what did not begin: {event}"


def check_flows(found: list[Event]) -> None:
    """An arrow that ends has begun."""
    begun = {(event.get("cat"), event.get("id")) for event in found if event["ph"] == "s"}
    for event in found:
        if event["ph"] in "tf":
            assert (event.get("cat"), event.get("id")) in begun, f"an arrow from nowhere: {event}"
