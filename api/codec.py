"""Orders, riders, commands and events as JSON and back; may import dispatch and msgspec.

The JSON of a value is its fields under their own names, so that what stands in the store, in the
streams and in a journal is one form.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, Literal

import msgspec

from dispatch.commands import Command, RiderCommand
from dispatch.events import FACTS, Event, Fact, RiderEvent, RiderFact, kind_of
from dispatch.model import Order, Rider
from geo.errors import InvalidValue, UnknownName

Subject = Literal["order", "rider"]

# PostgreSQL's jsonb and text cannot hold U+0000: an escape of it behind an even number of
# backslashes is one.
_ZERO = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """The wire form of an event: whose it is, its place in that life, and the fact by kind."""

    subject: Subject
    id: str
    seq: int
    at_ms: int
    kind: str
    fact: msgspec.Raw


_envelopes = msgspec.json.Decoder(Envelope)
_orders = msgspec.json.Decoder(Order)
_riders = msgspec.json.Decoder(Rider)
_facts: dict[str, msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(cls) for kind, cls in FACTS.items()
}


def to_json(value: object) -> bytes:
    """The JSON of any of our values.

    Raises:
        InvalidValue: a text in it contains U+0000, which no database text can hold.
    """
    data = msgspec.json.encode(value)
    if b"\\u0000" in data and _ZERO.search(data):
        raise InvalidValue("text", "\\u0000", "text without the character U+0000")
    return data


def to_json_text(value: object) -> str:
    """`to_json` as text."""
    return to_json(value).decode()


def subject_of(event: Event | RiderEvent) -> tuple[Subject, str]:
    """Whose event it is: ("order", id) or ("rider", id)."""
    if isinstance(event, Event):
        return "order", event.order_id
    return "rider", event.rider_id


def encode_event(event: Event | RiderEvent) -> bytes:
    """The event as one JSON object, see `Envelope`."""
    subject, subject_id = subject_of(event)
    return to_json(
        Envelope(
            subject=subject,
            id=subject_id,
            seq=event.seq,
            at_ms=event.at_ms,
            kind=kind_of(event.fact),
            fact=msgspec.Raw(to_json(event.fact)),
        )
    )


def decode_event(data: bytes | str) -> Event | RiderEvent:
    """The event of `encode_event`.

    Raises:
        InvalidValue: `data` is not such an object, or its fact does not fit its kind.
        UnknownName: nothing is registered under the kind.
    """
    try:
        e = _envelopes.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidValue("event", _shown(data), f"an event as JSON ({error})") from None
    return make_event(e.subject, e.id, e.seq, e.at_ms, decode_fact(e.kind, bytes(e.fact)))


def make_event(
    subject: str, subject_id: str, seq: int, at_ms: int, fact: Fact | RiderFact
) -> Event | RiderEvent:
    """The event of the right class for its subject."""
    if subject == "order":
        return Event(subject_id, seq, at_ms, fact)  # type: ignore[arg-type]
    return RiderEvent(subject_id, seq, at_ms, fact)  # type: ignore[arg-type]


def decode_fact(kind: str, data: bytes | str) -> Fact | RiderFact:
    """The fact of JSON `data` under `kind`.

    Raises:
        UnknownName: nothing is registered under `kind`.
        InvalidValue: `data` does not have the fields of the kind.
    """
    decoder = _facts.get(kind)
    if decoder is None:
        raise UnknownName("kind", kind, f"one of {sorted(_facts)}")
    try:
        fact: Fact | RiderFact = decoder.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidValue(f"fact.{kind}", _shown(data), str(error)) from None
    return fact


def order_to_json(order: Order) -> str:
    """The order as JSON text."""
    return to_json_text(order)


def order_from_json(data: bytes | str) -> Order:
    """The order of `order_to_json`. Raises InvalidValue when it is not one."""
    try:
        return _orders.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidValue("order", _shown(data), str(error)) from None


def rider_to_json(rider: Rider) -> str:
    """The rider as JSON text."""
    return to_json_text(rider)


def rider_from_json(data: bytes | str) -> Rider:
    """The rider of `rider_to_json`. Raises InvalidValue when it is not one."""
    try:
        return _riders.decode(data)
    except msgspec.DecodeError as error:
        raise InvalidValue("rider", _shown(data), str(error)) from None


def to_builtins(value: object) -> Any:
    """Dicts, lists, numbers and text with the same fields."""
    return msgspec.to_builtins(value)


def digest_of_command(command: Command | RiderCommand) -> str:
    """SHA-256 of what the sender asks, hence without `at_ms`, which the server sets."""
    fields = msgspec.to_builtins(command)
    del fields["at_ms"]
    asked = {"command": type(command).__name__, **fields}
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()


def _shown(data: bytes | str) -> str:
    text = data if isinstance(data, str) else data.decode(errors="replace")
    return text[:100]
