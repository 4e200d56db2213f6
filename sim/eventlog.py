"""The digest of an event log: equal runs have equal digests; uses msgspec's JSON encoder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec
from msgspec.structs import astuple

from dispatch.events import FACTS, Event, Placed, RiderEvent
from dispatch.model import Order

_KINDS = {cls: kind for kind, cls in FACTS.items()}
_LATER = {"matching": "dispatch"}
"""Fields that orders have had since the first digests, and what they were before: left out where
they say just that, so that a digest of then and one of now can be compared."""


class EventLog:
    """SHA-256 over every event in order, one JSON line each: [id, seq, at_ms, kind, fact].

    The fact is its fields in the order in which its class declares them; floats are written in
    the shortest form that reads back to the same bits. `count` is how many events there are.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._encode = msgspec.json.Encoder().encode_lines
        self.count = 0

    def add(self, events: Sequence[Event | RiderEvent]) -> None:
        """More events. Many at once take less time than one by one."""
        self._hash.update(self._encode([_line(event) for event in events]))
        self.count += len(events)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _line(event: Event | RiderEvent) -> tuple[str, int, int, str, object]:
    fact = event.fact
    name = event.order_id if isinstance(event, Event) else event.rider_id
    told = _as_then(fact.order) if type(fact) is Placed else fact
    return name, event.seq, event.at_ms, _KINDS[type(fact)], told


def _as_then(order: Order) -> object:
    """What `Placed` says of an order, without what later fields say by default."""
    fields = zip(Order.__struct_fields__, astuple(order), strict=True)
    return {"order": {k: v for k, v in fields if k not in _LATER or _LATER[k] != v}}
