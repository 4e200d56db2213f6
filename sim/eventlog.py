"""The digest of an event log: equal runs have equal digests; uses msgspec's JSON encoder."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import astuple

from dispatch.events import FACTS, Event, Placed, RiderEvent
from dispatch.model import Order

_KINDS = {cls: kind for kind, cls in FACTS.items()}
_PLACED = _KINDS[Placed]
_LATER = {"matching": "dispatch"}
"""Fields that orders have had since the first digests, and what they were before: left out where
they say just that, so that a digest of then and one of now can be compared."""

LINES = 100
"""So many lines are written at once, and kept until then."""


class EventLog:
    """SHA-256 over every event in order, one JSON line each: [id, seq, at_ms, kind, fact].

    The fact is its fields in the order in which its class declares them; floats are written in
    the shortest form that reads back to the same bits.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._encode = msgspec.json.Encoder().encode_lines
        self._lines: list[tuple[str, int, int, str, object]] = []
        self._written = 0

    @property
    def count(self) -> int:
        """How many events there are."""
        return self._written + len(self._lines)

    def add(self, name: str, event: Event | RiderEvent) -> None:
        """One more event; `name` is the id of its order or rider."""
        fact: object = event.fact
        kind = _KINDS[type(fact)]
        if kind is _PLACED:
            fact = _as_then(event.fact)
        self._lines.append((name, event.seq, event.at_ms, kind, fact))
        if len(self._lines) == LINES:
            self._write()

    def hexdigest(self) -> str:
        self._write()
        return self._hash.hexdigest()

    def _write(self) -> None:
        self._hash.update(self._encode(self._lines))
        self._written += len(self._lines)
        self._lines.clear()


def _as_then(placed: Any) -> object:
    """What `Placed` says of an order, without what later fields say by default."""
    order: Order = placed.order
    fields = zip(Order.__struct_fields__, astuple(order), strict=True)
    return {"order": {k: v for k, v in fields if k not in _LATER or _LATER[k] != v}}
