"""Job types by name, and what every one of them must hold to."""

import math

import pytest

from dispatch import registry
from dispatch.commands import Confirm
from dispatch.dispatcher import Decide, Dispatcher
from dispatch.engine import decide
from dispatch.model import LOAD_DIMENSIONS, OrderState, Place
from dispatch.policy import Policy
from dispatch.registry import OrderForm, Quote, StopForm, job_type, job_types
from dispatch.transitions import Refusal, apply, fold
from geo.errors import InvalidValue, UnknownName
from geo.travel import StraightLine


class Point:
    def __init__(self, name, value):
        self.name, self.value = name, value

    def load(self):
        return self.value


@pytest.fixture
def registered(monkeypatch):
    """Replaces what is registered; undone after the test."""

    def register(**jobs):
        points = [Point(name, job) for name, job in jobs.items()]
        monkeypatch.setattr(registry, "entry_points", lambda group: points)
        job_types.cache_clear()

    yield register
    job_types.cache_clear()


def test_ours_are_registered():
    assert job_type("delivery").name == "delivery"
    assert set(job_types()) >= {"delivery"}


def test_an_unknown_job_type_lists_those_that_are_known(registered):
    jobs = {
        name: type("Job", (), {"name": name, "stop_kinds": ("visit",)})()
        for name in ("walk", "delivery", "clean")
    }
    registered(**jobs)
    with pytest.raises(UnknownName) as caught:
        job_type("fly")
    assert caught.value.field == "job_type"
    assert caught.value.value == "fly"
    assert str(["clean", "delivery", "walk"]) in str(caught.value)
    assert job_type("walk") is jobs["walk"]


def test_a_job_type_is_registered_under_its_own_name(registered):
    registered(walk=type("Job", (), {"name": "run", "stop_kinds": ("visit",)})())
    with pytest.raises(InvalidValue, match=r"hexrun\.jobs\.walk.*'run'"):
        job_types()


@pytest.mark.parametrize("count", [0, 3])
def test_a_job_type_has_as_many_stops_as_a_round_can_insert(registered, count):
    registered(walk=type("Job", (), {"name": "walk", "stop_kinds": ("visit",) * count})())
    with pytest.raises(InvalidValue, match=r"walk\.stop_kinds.*1 to 2 stops"):
        job_types()


def test_a_quote_is_the_sum_of_its_lines():
    quote = Quote(lines=(("base", 500), ("tip", 99)), promise_from_ms=0, promise_to_ms=1)
    assert quote.price_fen == 599


# --- what holds for every job type -------------------------------------------------------------

AT = 1_700_000_000_000


@pytest.fixture(params=sorted(job_types()))
def job(request):
    return job_type(request.param)


def form(job, **fields):
    stops = tuple(
        StopForm(place=Place(lat=31.23, lon=121.47 + i / 100)) for i in range(len(job.stop_kinds))
    )
    return OrderForm(**{"customer_id": "c", "stops": stops} | fields)


def test_a_quote_is_whole(job):
    quote = job.quote(form(job), AT)
    assert quote.lines
    assert all(isinstance(name, str) and type(fen) is int for name, fen in quote.lines)
    assert quote.price_fen > 0
    assert AT < quote.promise_from_ms < quote.promise_to_ms
    assert job.quote(form(job), AT) == quote, "a quote has no memory"


def test_an_order_is_as_quoted_and_can_be_placed(job):
    asked = form(job, merchant_id="m", note="ring twice")
    quote = job.quote(asked, AT)
    order = job.order("o", "x", asked, quote, AT)
    assert (order.id, order.city, order.job_type) == ("o", "x", job.name)
    assert (order.customer_id, order.merchant_id, order.note) == ("c", "m", "ring twice")
    assert (order.promise_from_ms, order.promise_to_ms) == (
        quote.promise_from_ms,
        quote.promise_to_ms,
    )
    assert order.price_fen == quote.price_fen
    assert order.created_at_ms == AT < order.expires_at_ms
    assert tuple(s.kind for s in order.stops) == job.stop_kinds
    assert all(sum(column) == 0 for column in zip(*(s.load for s in order.stops), strict=True))
    events = apply(order, Confirm(at_ms=AT))
    assert not isinstance(events, Refusal)
    assert fold(order, events).state is OrderState.OPEN


def test_an_order_of_any_legal_form_can_be_dispatched(job, kit):
    """What passes the quote must not stop a city's rounds."""
    city = Dispatcher("toy", kit.PLANE, StraightLine(), Policy())
    for n in range(1, LOAD_DIMENSIONS + 1):
        asked = form(job, load=(n,) * n)
        order = job.order(f"o{n}", "toy", asked, job.quote(asked, AT), AT)
        for event in apply(order, Confirm(at_ms=AT)):
            city.receive(event)
    city.tick(AT)
    (effect,) = city.outbox()
    assert isinstance(effect, Decide)
    assert len(decide(effect.snapshot, Policy()).waits) == LOAD_DIMENSIONS


def moved(**place):
    return lambda form: {
        "stops": (*form.stops[:-1], StopForm(place=Place(**{"lat": 31.0, "lon": 121.0} | place)))
    }


BAD = {
    "load too many": ("load", lambda f: {"load": (1,) * (LOAD_DIMENSIONS + 1)}),
    "load empty": ("load", lambda f: {"load": ()}),
    "load none": ("load", lambda f: {"load": (0,)}),
    "load less": ("load", lambda f: {"load": (1, -1)}),
    "no stop": ("stops", lambda f: {"stops": ()}),
    "a stop more": ("stops", lambda f: {"stops": (*f.stops, f.stops[-1])}),
    "beyond the pole": (".place.lat", moved(lat=91.0)),
    "round the world": (".place.lon", moved(lon=181.0)),
    "nowhere": (".place.lat", moved(lat=math.nan)),
    "endless": (".place.lon", moved(lon=math.inf)),
    "too late": (
        "].latest_ms",
        lambda f: {"stops": (StopForm(place=f.stops[0].place, latest_ms=AT), *f.stops[1:])},
    ),
    "too early": (
        "].earliest_ms",
        lambda f: {
            "stops": (StopForm(place=f.stops[0].place, earliest_ms=AT - 60_001), *f.stops[1:])
        },
    ),
    "empty window": (
        "].latest_ms",
        lambda f: {
            "stops": (
                StopForm(place=f.stops[0].place, earliest_ms=AT + 9, latest_ms=AT + 9),
                *f.stops[1:],
            )
        },
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_a_form_that_cannot_be_served_names_its_field(job, wrong):
    field, change = BAD[wrong]
    good = form(job)
    with pytest.raises(InvalidValue) as caught:
        job.quote(form(job, **change(good)), AT)
    assert field in caught.value.field
    assert caught.value.expected
