"""Same-city delivery: its price, promise and stops."""

import pytest

from dispatch.jobs.delivery import JOB, MINUTE_MS, Delivery
from dispatch.model import Place
from dispatch.registry import OrderForm, StopForm
from geo.errors import InvalidValue

AT = 1_700_000_000_000
# One degree of latitude on the mean sphere of 6,371,008.8 m.
DEGREE_M = 111_195.08


def ask(metres=0.0, load=(1,), start=None, end=None, **fields):
    """A form from a point to one `metres` north of it; `start` and `end` change the stops."""
    here, there = Place(lat=31.0, lon=121.0), Place(lat=31.0 + metres / DEGREE_M, lon=121.0)
    stops = (
        StopForm(**{"place": here} | (start or {})),
        StopForm(**{"place": there} | (end or {})),
    )
    return OrderForm(customer_id="c", stops=stops, load=load, **fields)


@pytest.mark.parametrize(
    ("metres", "load", "lines"),
    [
        (0, (1,), {"base": 500, "distance": 0}),
        (1000 / 1.3 - 1, (1,), {"base": 500, "distance": 0}),  # 1 km by road is in the base
        (3000 / 1.3, (1,), {"base": 500, "distance": 300}),  # 2 km more at 1.50 yuan
        (2600 / 1.3, (4,), {"base": 500, "distance": 240, "items": 150}),
        (0, (2, 900), {"base": 500, "distance": 0, "items": 50}),  # grams are not items
    ],
)
def test_the_lines_of_a_quote(metres, load, lines):
    quote = JOB.quote(ask(metres, load), AT)
    assert dict(quote.lines) == lines
    assert quote.price_fen == sum(lines.values())


def test_the_promise_is_a_window_before_its_end():
    quote = JOB.quote(ask(4500 / 1.3), AT)
    assert quote.promise_to_ms == pytest.approx(AT + 20 * MINUTE_MS + 1_000_000, abs=200)
    assert quote.promise_to_ms - quote.promise_from_ms == 15 * MINUTE_MS


def test_the_promise_starts_when_the_goods_are_ready():
    ready = AT + 30 * MINUTE_MS
    later = JOB.quote(ask(start={"earliest_ms": ready}), AT).promise_to_ms
    assert later - JOB.quote(ask(), AT).promise_to_ms == 30 * MINUTE_MS
    past = JOB.quote(ask(start={"earliest_ms": AT - MINUTE_MS}), AT)
    assert past == JOB.quote(ask(), AT), "a phone's clock may be a minute behind"


def test_the_longest_way():
    metres = 15_000 / 1.3
    JOB.quote(ask(metres - 1), AT)
    with pytest.raises(InvalidValue) as caught:
        JOB.quote(ask(metres + 1), AT)
    assert caught.value.field == "stops[1].place"
    assert "at most 15000 m" in str(caught.value)


@pytest.mark.parametrize(
    ("field", "form"),
    [
        ("stops[0].latest_ms", ask(start={"latest_ms": AT})),
        ("stops[1].latest_ms", ask(end={"latest_ms": AT - 5})),
        ("stops[0].earliest_ms", ask(start={"earliest_ms": AT - MINUTE_MS - 1})),
        ("stops[1].earliest_ms", ask(end={"earliest_ms": AT - MINUTE_MS - 1})),
        ("stops[0].latest_ms", ask(start={"earliest_ms": AT + 9, "latest_ms": AT + 8})),
        # The goods are not ready before they have to be there.
        ("stops[1].latest_ms", ask(start={"earliest_ms": AT + 9}, end={"latest_ms": AT + 9})),
        ("stops[0].place.lat", ask(start={"place": Place(lat=-90.5, lon=121.0)})),
        ("load", ask(load=(1, 0))),
        ("load", ask(load=())),
        ("details", ask(details={"gift": True})),
    ],
)
def test_a_bad_form_names_its_field(field, form):
    with pytest.raises(InvalidValue) as caught:
        JOB.quote(form, AT)
    assert caught.value.field == field


def test_the_number_of_stops_is_named():
    one = OrderForm(customer_id="c", stops=ask().stops[:1])
    with pytest.raises(InvalidValue, match="stops: 1 is not valid"):
        JOB.quote(one, AT)


def test_the_order_has_the_form_s_windows_and_doors():
    form = ask(
        1000, (2, 300), {"earliest_ms": AT + 5, "latest_ms": AT + 9}, {"latest_ms": AT + 90_000},
        merchant_id="m",
    )  # fmt: skip
    order = JOB.order("o", "x", form, JOB.quote(form, AT), AT)
    pickup, dropoff = order.stops
    assert (pickup.earliest_ms, pickup.latest_ms, pickup.place_id) == (AT + 5, AT + 9, "m")
    assert (dropoff.earliest_ms, dropoff.latest_ms, dropoff.place_id) == (None, AT + 90_000, "")
    assert (pickup.load, dropoff.load) == ((2, 300), (-2, -300))
    assert pickup.approach_ms + pickup.leave_ms == JOB.pickup_ms
    assert dropoff.approach_ms + dropoff.leave_ms == JOB.dropoff_ms
    assert order.expires_at_ms == AT + 5 + 45 * MINUTE_MS
    own = ask(start={"place_id": "door"}, merchant_id="m")
    assert JOB.order("o", "x", own, JOB.quote(own, AT), AT).stops[0].place_id == "door"


def test_the_knobs_are_the_law():
    cheap = Delivery(base_fen=1, km_fen=10, base_km=0.0, item_fen=2, distance_max_m=100.0)
    assert dict(cheap.quote(ask(0, (3,)), AT).lines) == {"base": 1, "distance": 0, "items": 4}
    with pytest.raises(InvalidValue):
        cheap.quote(ask(100), AT)
