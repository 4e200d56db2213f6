"""Phones as they are written, what others see of a name, and values that keep silent."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from api.personal import (
    NOTHING,
    Contact,
    OrderPersonal,
    StopPersonal,
    in_the_clear,
    masked,
    masked_name,
    read_phone,
    without_numbers,
    without_texts,
)
from dispatch.jobs.delivery import JOB
from dispatch.model import Order, Place
from dispatch.registry import OrderForm, StopForm

NOW_MS = 1_790_000_000_000


@pytest.fixture
def order() -> Order:
    stops = tuple(StopForm(place=Place(lat=31.23 + d, lon=121.47)) for d in (0.0, 0.01))
    form = OrderForm(customer_id="anna", stops=stops)
    return JOB.order("a", "demo", form, JOB.quote(form, NOW_MS), NOW_MS)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("13812345678", "+8613812345678"),
        ("138 1234 5678", "+8613812345678"),
        ("+86 138-1234-5678", "+8613812345678"),
        ("008613812345678", "+8613812345678"),
        ("021-12345678", "+862112345678"),
        ("(0755) 1234567", "+867551234567"),
        ("+86 21 12345678", "+862112345678"),
        ("+86 021 12345678", "+862112345678"),
        ("+44 20 7946 0958", "+442079460958"),
    ],
)
def test_a_phone_is_kept_in_one_form(given: str, read: str) -> None:
    assert read_phone(given) == read
    assert read_phone(read) == read


@pytest.mark.parametrize(
    "given",
    ["", "12345678", "12812345678", "1381234567", "138123456789", "+86 12812345678", "+0123456789",
     "+1234", "anna", "+8613812345678x", "１３８１２３４５６７８", "+", "00"],
)  # fmt: skip
def test_what_is_no_phone_is_refused_and_not_repeated(given: str) -> None:
    with pytest.raises(ValueError, match="a number such as") as caught:
        read_phone(given)
    assert not given or given not in str(caught.value).split()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("王小明", "王**"), ("anna berg", "A."), ("  Özil", "Ö."), ("", ""), ("   ", "")],
)
def test_others_see_the_surname_or_a_letter(name: str, shown: str) -> None:
    assert masked_name(name) == shown


def test_others_see_the_end_of_a_phone() -> None:
    assert masked(Contact(name="王小明", phone="+8613812345678")) == Contact(
        name="王**", phone="****5678"
    )
    assert masked(Contact(name="anna")) == Contact(name="A.")
    assert masked(None) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("call 13812345678 please", "call *** please"),
        ("+86 138-1234-5678", "***"),
        ("waited_too_long", "waited_too_long"),
        ("20 min late, 3 items", "20 min late, 3 items"),
    ],
)
def test_a_reason_loses_phone_numbers(text: str, shown: str) -> None:
    assert without_numbers(text) == shown


def test_values_do_not_show_themselves() -> None:
    stop = StopPersonal(text="Frobozz Lane", contact=Contact(name="Quux", phone="+8613812345678"))
    shown = repr([OrderPersonal(stops=(stop,), note="Fnord"), stop, stop.contact])
    assert shown == "[OrderPersonal(...), StopPersonal(...), Contact(...)]"


def test_an_order_is_split_and_put_together(order: Order) -> None:
    assert in_the_clear(order) == NOTHING
    door = replace(order.stops[1], place=replace(order.stops[1].place, text="Frobozz Lane"))
    old = replace(order, stops=(order.stops[0], door), note="Fnord")
    own = in_the_clear(old)
    assert (own.stop(old, 1).text, own.note) == ("Frobozz Lane", "Fnord")
    assert without_texts(old) == order


def test_goods_that_go_back_go_to_the_address_they_came_from(order: Order) -> None:
    own = OrderPersonal(stops=(StopPersonal(text="shop"), StopPersonal(text="door")))
    back = replace(order, stops=(*order.stops, order.stops[0]))
    assert own.stop(back, 2).text == "shop"
    elsewhere = replace(order.stops[0], place=Place(lat=1.0, lon=1.0))
    assert own.stop(replace(order, stops=(*order.stops, elsewhere)), 2) == StopPersonal()
    assert NOTHING.stop(order, 0) == StopPersonal()
