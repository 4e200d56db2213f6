"""The digest of an event log: equal runs have equal digests; uses msgspec's JSON encoder."""

from __future__ import annotations

import hashlib

import msgspec

from dispatch.events import FACTS, Event, Fact, Placed, RiderEvent, RiderFact

_KINDS = {cls: kind for kind, cls in FACTS.items()}
_LATER = {"matching": "dispatch"}
"""Fields that orders have had since the first digests, and what they were before: left out where
they say just that, so that a digest of then and one of now can be compared."""


class EventLog:
    """SHA-256 over every event in order, one JSON line each: [id, seq, at_ms, kind, fact].

    The fact is its fields in the order in which its class declares them; floats are written in
    the shortest form that reads back to the same bits.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._encode = msgspec.json.Encoder().encode
        self.count = 0

    def add(self, event: Event | RiderEvent) -> None:
        """One more event."""
        name = event.order_id if isinstance(event, Event) else event.rider_id
        fact = event.fact
        line = (name, event.seq, event.at_ms, _KINDS[type(fact)], _plain(fact))
        self._hash.update(self._encode(line))
        self._hash.update(b"\n")
        self.count += 1

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def _plain(fact: Fact | RiderFact) -> object:
    """The fact, without what its order says in later fields by default."""
    if not isinstance(fact, Placed):
        return fact
    fields = msgspec.to_builtins(fact)
    order = fields["order"]
    fields["order"] = {k: v for k, v in order.items() if k not in _LATER or _LATER[k] != v}
    return fields
