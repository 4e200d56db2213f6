import numpy as np
import pytest

from dispatch.commands import Confirm, GoOnShift
from dispatch.dispatcher import Decide, Dispatcher
from dispatch.model import Place, Rider
from dispatch.policy import Policy
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.transitions import apply, apply_rider
from geo.distance import Plane
from geo.travel import StraightLine

START_MS = 1_700_000_000_000


@pytest.fixture
def town():
    """A dispatcher with 30 riders and 20 open orders, not yet decided."""
    rng = np.random.default_rng(7)
    plane = Plane(31.23, 121.47)
    dispatcher = Dispatcher("demo", plane, StraightLine(1.3), Policy())

    def place():
        lat, lon = plane.lat_lon(*rng.uniform(-2_000, 2_000, 2))
        return Place(lat=float(lat), lon=float(lon))

    for i in range(30):
        on = GoOnShift(at_ms=START_MS, shift_end_ms=START_MS + 3_600_000, place=place())
        for event in apply_rider(Rider(id=f"r{i}", city="demo"), on):
            dispatcher.receive(event)
    kind = job_type("delivery")
    for i in range(20):
        form = OrderForm(
            customer_id=f"c{i}", stops=(StopForm(place=place()), StopForm(place=place()))
        )
        order = kind.order(f"o{i}", "demo", form, kind.quote(form, START_MS), START_MS)
        for event in apply(order, Confirm(at_ms=START_MS)):
            dispatcher.receive(event)
    return dispatcher


@pytest.fixture
def snapshot(town):
    town.tick(START_MS + 1_000)
    (effect,) = town.outbox()
    assert isinstance(effect, Decide)
    return effect.snapshot
