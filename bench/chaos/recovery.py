"""How long the clients had to wait after each fault, from the logs of probes and clients."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from statistics import median
from typing import Any

Row = dict[str, Any]
ENOUGH_S = 30.0
"""Who has not answered for so long after a fault is taken to have gone for good."""
ASKED_MIN = 3  # offers that may be missing for other reasons, such as a cancellation

# The doors that a fault of a target can close; `@` is the twin that was hit.
_DOORS = {
    "http": ("order@",),
    "gateway": ("fix@", "action@"),
    "stream": ("fix@", "action@"),
    "dispatcher": ("offer",),
    "solver": ("offer",),
    "sequencer": ("offer",),
    "redis": ("offer", "fix1", "fix2"),
    "valkey": ("offer", "fix1", "fix2"),
    "postgres": ("order1", "order2", "action1", "action2", "offer"),
    "backend": ("order1", "order2", "action1", "action2", "offer"),
}


def recovery(logs: Iterable[Row]) -> dict[str, dict[str, float | int | None]]:
    """By kind of fault: how many, median and max of the seconds until all its doors were open.

    Counted from the fault's beginning to the first good answer to what was asked after it; an
    offer counts when it is for an order that was placed after it, and in every city. Those that
    were still closed at the end are `never`.
    """
    lines = list(logs)
    doors = _openings(lines)
    by_kind: dict[str, list[float | None]] = {}
    for fault, names in _faults(lines):
        waits = [_wait_s(doors.get(name, []), fault["begins_ms"]) for name in names]
        known = [wait for wait in waits if wait is not None]
        worst = max(known) if len(known) == len(waits) else None
        by_kind.setdefault(fault["kind"], []).append(worst)
    return {kind: _figures(waits) for kind, waits in sorted(by_kind.items())}


def not_recovered(logs: Iterable[Row]) -> list[tuple[Row, list[str]]]:
    """Faults with the doors that stayed closed, though there were ENOUGH_S left to open.

    An offer is looked for only when ASKED_MIN orders of the city asked for a rider after the fault.
    """
    lines = list(logs)
    doors = _openings(lines)
    asked: dict[str, list[int]] = {}
    for line in lines:
        if line["log"] == "order" and line.get("matching", "dispatch") == "dispatch":
            asked.setdefault(f"offer {line['city']}", []).append(line["sent_ms"])
    end_ms = max((line["ms"] for line in lines if line["log"] == "load_ends"), default=0)
    found = []
    for fault, names in _faults(lines):
        closed = []
        for name in names:
            since_ms = fault.get("ends_ms", fault["begins_ms"])
            if name.startswith("offer"):
                later = sorted(ms for ms in asked.get(name, []) if ms >= since_ms)
                since_ms = later[ASKED_MIN - 1] if len(later) >= ASKED_MIN else end_ms
            is_closed = _wait_s(doors.get(name, []), fault["begins_ms"]) is None
            if is_closed and end_ms - since_ms >= ENOUGH_S * 1000:
                closed.append(name)
        if closed:
            found.append((fault, closed))
    return found


def _faults(lines: list[Row]) -> Iterator[tuple[Row, list[str]]]:
    """The faults that were done and can close a door, and their doors."""
    cities = {f"offer {line['city']}" for line in lines if line["log"] == "order"} or {"offer"}
    for fault in lines:
        if fault["log"] != "fault" or fault["done"].startswith("not done"):
            continue
        names = [
            door
            for name in _DOORS.get(fault["target"], ())
            for door in (
                sorted(cities) if name == "offer" else [name.replace("@", str(fault["twin"]))]
            )
        ]
        if names:
            yield fault, names


def _openings(lines: list[Row]) -> dict[str, list[tuple[int, int]]]:
    """(asked, answered) of each door by when it was asked."""
    doors: dict[str, list[tuple[int, int]]] = {}
    placed: dict[str, tuple[str, int]] = {}
    for line in lines:
        if line["log"] == "probe":
            pair = line["begun_ms"], line["ms"]
            doors.setdefault(f"{line['what']}{line['door']}", []).append(pair)
        elif line["log"] == "order":
            placed.setdefault(line["order"], (f"offer {line['city']}", line["sent_ms"]))
    for line in lines:
        if line["log"] == "offer" and line["order"] in placed:
            door, sent_ms = placed[line["order"]]
            doors.setdefault(door, []).append((sent_ms, line["ms"]))
    for pairs in doors.values():
        pairs.sort()
    return doors


def _wait_s(pairs: list[tuple[int, int]], begins_ms: int) -> float | None:
    after = pairs[bisect_left(pairs, (begins_ms, 0)) :]
    return (min(answered for _, answered in after) - begins_ms) / 1000 if after else None


def _figures(waits: list[float | None]) -> dict[str, float | int | None]:
    known = [wait for wait in waits if wait is not None]
    return {
        "faults": len(waits),
        "median": round(median(known), 2) if known else None,
        "max": round(max(known), 2) if known else None,
        "never": len(waits) - len(known),
    }
