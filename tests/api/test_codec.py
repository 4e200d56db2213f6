"""The JSON of every value comes back as the same value."""

from __future__ import annotations

import json
from enum import Enum
from functools import cache
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from api.codec import (
    decode_event,
    decode_fact,
    digest_of_command,
    encode_event,
    order_from_json,
    order_to_json,
    rider_from_json,
    rider_to_json,
    to_json,
)
from dispatch.commands import Accept, Command
from dispatch.events import FACTS, Event, Fact, RiderEvent, RiderFact, kind_of
from dispatch.model import Order, Rider, Value
from geo.errors import InvalidValue, UnknownName

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    int: st.integers(-(2**62), 2**62),
    float: st.floats(allow_nan=False, allow_infinity=False),
    bool: st.booleans(),
    type(None): st.none(),
}


@cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    """Any value of a type of the engine's model."""
    if kind in PLAIN:
        return PLAIN[kind]
    if isinstance(kind, type) and issubclass(kind, Value):
        return st.builds(kind, **{f.name: values(f.type) for f in fields(kind)})
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(kind)
    parts = get_args(kind)
    if get_origin(kind) is tuple:
        assert parts[1] is ...
        return st.lists(values(parts[0]), max_size=3).map(tuple)
    return st.one_of(*(values(part) for part in parts))


def test_every_kind_has_a_class() -> None:
    assert set(FACTS) == {kind_of(f) for f in (*get_args(Fact), *get_args(RiderFact))}


@given(TEXT, st.integers(1, 2**31), st.integers(0, 2**53), values(Fact))
def test_an_order_s_event(order_id: str, seq: int, at_ms: int, fact: Fact) -> None:
    event = Event(order_id, seq, at_ms, fact)
    data = encode_event(event)
    assert decode_event(data) == decode_event(data.decode()) == event
    assert json.loads(data)["kind"] == kind_of(fact)


@given(values(RiderFact))
def test_a_rider_s_event(fact: RiderFact) -> None:
    event = RiderEvent("rita", 3, 5, fact)
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize("kind", sorted(FACTS))
@given(data=st.data())
def test_every_fact(kind: str, data: st.DataObject) -> None:
    fact = data.draw(values(FACTS[kind]))
    again = decode_fact(kind, to_json(fact))
    assert again == fact
    assert type(again) is FACTS[kind]


@given(values(Order), values(Rider))
def test_orders_and_riders(order: Order, rider: Rider) -> None:
    assert order_from_json(order_to_json(order)) == order
    assert rider_from_json(rider_to_json(rider)) == rider


@given(values(Order))
def test_the_names_are_the_fields_own(order: Order) -> None:
    def same(value: Any, shown: Any) -> None:
        if isinstance(value, Value):
            assert set(shown) == {f.name for f in fields(value)}
            for f in fields(value):
                same(getattr(value, f.name), shown[f.name])

    same(order, json.loads(order_to_json(order)))


@pytest.mark.parametrize(
    ("kind", "data", "error", "named"),
    [
        ("exploded", b"{}", UnknownName, "exploded"),
        ("accepted", b'{"number": 1}', InvalidValue, "rider_id"),
        ("accepted", b'{"number": "one", "rider_id": "r"}', InvalidValue, "number"),
        ("accepted", b"{", InvalidValue, "accepted"),
    ],
)
def test_a_fact_that_is_none(kind: str, data: bytes, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        decode_fact(kind, data)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"subject": "car"}', "nonsense"])
def test_an_event_that_is_none(data: bytes | str) -> None:
    with pytest.raises(InvalidValue, match="event"):
        decode_event(data)
    for decode in (order_from_json, rider_from_json):
        with pytest.raises(InvalidValue):
            decode(data)


@pytest.mark.parametrize(
    ("text", "held"),
    [("a\0b", False), ("\\\0", False), ("\\u0000", True), ("\\\\u0000", True), ("0", True)],
)
def test_only_what_a_database_holds(text: str, held: bool) -> None:
    if held:
        assert json.loads(to_json({"note": text})) == {"note": text}
    else:
        with pytest.raises(InvalidValue, match=r"U\+0000"):
            to_json({"note": text})


def test_a_command_s_digest_leaves_the_server_s_time_out() -> None:
    accept = Accept(at_ms=1, rider_id="rita", number=1)
    assert digest_of_command(accept) == digest_of_command(
        Accept(at_ms=2, rider_id="rita", number=1)
    )
    others: list[Command] = [Accept(at_ms=1, rider_id="rita", number=2)]
    others.append(Accept(at_ms=1, rider_id="rob", number=1))
    assert digest_of_command(accept) not in {digest_of_command(o) for o in others}
