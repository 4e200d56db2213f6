"""Single rules of `apply` and `evolve`, by hand; any commands at all are in test_apply_machine."""

import pytest
from msgspec.structs import replace

from dispatch import commands as c
from dispatch.events import kind_of
from dispatch.model import (
    AssignmentState,
    Matching,
    Order,
    OrderState,
    Party,
    Place,
    Rider,
    RiderState,
    RouteStop,
    Stop,
    StopKind,
    StopState,
)
from dispatch.transitions import (
    Refusal,
    apply,
    apply_rider,
    evolve,
    evolve_rider,
    fold,
    has_goods,
)
from geo.errors import IllegalMove

EXPIRES = 1_000
HERE = Place(lat=31.0, lon=121.0)
SHAPES = {
    "pd": (("pickup", 2), ("dropoff", -2)),
    "vv": (("visit", 0), ("visit", 0)),
    "pdd": (("pickup", 3), ("dropoff", -1), ("dropoff", -2)),
    "pdpd": (("pickup", 1), ("dropoff", -1), ("pickup", 2), ("dropoff", -2)),
}


def quoted(shape):
    stops = tuple(
        Stop(kind=StopKind(kind), place=replace(HERE, lat=31.0 + i / 100), load=(load, 0))
        for i, (kind, load) in enumerate(SHAPES[shape])
    )
    return Order(
        id="o", city="x", job_type="t", customer_id="c", stops=stops, created_at_ms=0,
        promise_from_ms=0, promise_to_ms=500, expires_at_ms=EXPIRES, price_fen=1,
    )  # fmt: skip


def run(order, *commands):
    for command in commands:
        answer = apply(order, command)
        assert not isinstance(answer, Refusal), answer
        order = fold(order, answer)
    return order


def offered(shape="pd", rider="ann", deadline_ms=50, order=None):
    order = order or run(quoted(shape), c.Confirm(at_ms=1))
    return run(
        order,
        c.Offer(
            at_ms=2, rider_id=rider, deadline_ms=deadline_ms, route=(), order_version=order.version
        ),
    )


def under_way(shape="pd"):
    """Everything picked up: the rider stands at the first door after the pickups."""
    order = run(offered(shape), c.Accept(at_ms=3, rider_id="ann", number=1))
    for stop in [i for i, (kind, _) in enumerate(SHAPES[shape]) if kind == "pickup"]:
        who = {"rider_id": "ann", "stop": stop}
        order = run(order, c.Arrive(at_ms=4, **who), c.FinishStop(at_ms=5, **who))
    return order


@pytest.mark.parametrize(("late_ms", "code"), [(-1, None), (0, None), (1, "offer_over")])
def test_an_offer_can_be_accepted_to_its_deadline(late_ms, code):
    answer = apply(offered(), c.Accept(at_ms=50 + late_ms, rider_id="ann", number=1))
    assert (answer.code if isinstance(answer, Refusal) else None) == code


@pytest.mark.parametrize(("late_ms", "refused"), [(-1, True), (0, True), (1, False)])
def test_an_offer_times_out_after_its_deadline(late_ms, refused):
    """So that at every moment exactly one of accepting and timing out is possible."""
    answer = apply(offered(), c.TimeOut(at_ms=50 + late_ms, number=1))
    assert isinstance(answer, Refusal) == refused


@pytest.mark.parametrize(("late_ms", "refused"), [(-1, True), (0, False), (1, False)])
def test_an_order_expires_at_its_expiry(late_ms, refused):
    order = run(quoted("pd"), c.Confirm(at_ms=1))
    assert isinstance(apply(order, c.Expire(at_ms=EXPIRES + late_ms)), Refusal) == refused


@pytest.mark.parametrize(("late_ms", "code"), [(-1, None), (0, "expired"), (1, "expired")])
def test_nobody_is_offered_an_order_at_or_after_its_expiry(late_ms, code):
    """So that at every moment exactly one of offering and expiring is possible."""
    order, at_ms = run(quoted("pd"), c.Confirm(at_ms=1)), EXPIRES + late_ms
    offer = c.Offer(
        at_ms=at_ms, rider_id="ann", deadline_ms=EXPIRES + 50, route=(), order_version=order.version
    )
    answer = apply(order, offer)
    assert (answer.code if isinstance(answer, Refusal) else None) == code
    assert isinstance(apply(order, c.Expire(at_ms=at_ms)), Refusal) is (code is None)


def test_an_offer_that_stands_at_the_expiry_may_be_accepted_until_its_deadline():
    order = offered(deadline_ms=EXPIRES + 50)
    answer = apply(order, c.Accept(at_ms=EXPIRES + 50, rider_id="ann", number=1))
    assert [kind_of(event.fact) for event in answer] == ["accepted"]


def test_an_order_does_not_expire_while_a_rider_is_asked():
    assert apply(offered(), c.Expire(at_ms=EXPIRES + 1)).code == "not_open"


def test_a_late_answer_cannot_hit_a_later_attempt_of_the_same_rider():
    order = run(offered(), c.TimeOut(at_ms=51, number=1))
    order = offered(order=order)
    for late in (
        c.Accept(at_ms=3, rider_id="ann", number=1),
        c.Decline(at_ms=3, rider_id="ann", number=1),
        c.TimeOut(at_ms=99, number=1),
        c.Withdraw(at_ms=3, number=1),
        c.DropOut(at_ms=3, rider_id="ann", number=1),
    ):
        assert apply(order, late).code == "stale_assignment"
    assert run(order, c.Accept(at_ms=3, rider_id="ann", number=2)).assignment.number == 2


def test_goods_on_board_are_given_up_by_the_system_alone_and_the_order_failed():
    order = run(under_way(), c.Cancel(at_ms=6, by=Party.SYSTEM))
    assert (order.state, order.assignment) == (OrderState.FAILED, None)
    assert order.ended_reason == "cancelled_with_goods"


@pytest.mark.parametrize("by", [Party.CUSTOMER, Party.MERCHANT])
def test_goods_on_board_are_not_cancelled_but_returned(by):
    order = under_way()
    assert apply(order, c.Cancel(at_ms=6, by=by)).code == "goods_on_board"
    assert apply(order, c.Withdraw(at_ms=6, number=1)).code == "goods_on_board"
    who = {"rider_id": "ann", "stop": 1}
    order = run(order, c.Arrive(at_ms=6, **who), c.FailStop(at_ms=7, reason="nobody", **who))
    assert (order.state, order.returning, len(order.stops)) == (OrderState.UNDER_WAY, True, 3)
    assert order.stops[2].place == order.stops[0].place
    assert order.stops[2].load == (-2, 0)
    back = {"rider_id": "ann", "stop": 2}
    order = run(order, c.Arrive(at_ms=8, **back), c.FinishStop(at_ms=9, **back))
    assert (order.state, order.assignment) == (OrderState.RETURNED, None)


def test_what_was_handed_over_on_the_way_does_not_come_back():
    order = under_way("pdd")
    order = run(
        order,
        c.Arrive(at_ms=6, rider_id="ann", stop=1),
        c.FinishStop(at_ms=6, rider_id="ann", stop=1),
        c.Arrive(at_ms=7, rider_id="ann", stop=2),
        c.FailStop(at_ms=7, rider_id="ann", stop=2, reason="shut"),
    )
    assert order.stops[-1].load == (-2, 0)


def test_a_return_that_fails_ends_the_order():
    order = under_way()
    for stop in (1, 2):
        who = {"rider_id": "ann", "stop": stop}
        order = run(order, c.Arrive(at_ms=6, **who), c.FailStop(at_ms=7, reason="shut", **who))
    assert (order.state, order.assignment, order.ended_reason) == (OrderState.FAILED, None, "shut")


def test_a_dropped_order_starts_anew_and_keeps_what_is_done():
    who = {"rider_id": "ann"}
    order = run(
        offered("vv"), c.Accept(at_ms=3, number=1, **who), c.Arrive(at_ms=4, stop=0, **who),
        c.FinishStop(at_ms=5, stop=0, **who), c.Arrive(at_ms=6, stop=1, **who),
        c.DropOut(at_ms=7, number=1, **who),
    )  # fmt: skip
    assert [s.state for s in order.stops] == [StopState.DONE, StopState.PLANNED]
    assert (order.state, order.declined_by) == (OrderState.OPEN, ("ann",))
    order = run(offered(order=order, rider="bob"), c.Accept(at_ms=8, rider_id="bob", number=2))
    assert apply(order, c.Head(at_ms=9, rider_id="ann", stop=1)).code == "not_your_order"
    assert run(order, c.Head(at_ms=9, rider_id="bob", stop=1)).state is OrderState.UNDER_WAY


def test_a_scheduled_order_knows_when_it_opens():
    order = run(quoted("pd"), c.Confirm(at_ms=1, open_at_ms=40))
    assert (order.state, order.open_at_ms) == (OrderState.SCHEDULED, 40)


def test_evolve_refuses_what_the_tables_do_not_have():
    order = offered()
    events = apply(order, c.Accept(at_ms=3, rider_id="ann", number=1))
    accepted = fold(order, events)
    with pytest.raises(IllegalMove):
        evolve(accepted, events[0])
    assert accepted.assignment.state is AssignmentState.ACCEPTED


def test_a_shift_starts_and_ends_once():
    rider = Rider(id="ann", city="x")
    start = c.GoOnShift(at_ms=5, shift_end_ms=6, place=HERE)
    assert apply_rider(rider, c.GoOffShift(at_ms=4)).code == "not_on_shift"
    assert apply_rider(rider, replace(start, at_ms=6)).code == "shift_over"
    (event,) = apply_rider(rider, start)
    on = evolve_rider(rider, event)
    assert (event.seq, on.version, on.state, on.place) == (1, 1, RiderState.ON, HERE)
    assert apply_rider(on, start).code == "already_on_shift"
    assert apply_rider(on, c.GoOffShift(at_ms=6), live_orders=1).code == "has_orders"
    (event,) = apply_rider(on, c.GoOffShift(at_ms=6))
    off = evolve_rider(on, event)
    assert (event.seq, off.version, off.state) == (2, 2, RiderState.OFF)


def test_a_capacity_of_more_dimensions_than_columns_takes_no_shift():
    """The dispatcher would have no room for it: one rider must not stop a city."""
    rider = Rider(id="ann", city="x", capacity=(1, 1, 1, 1))
    start = c.GoOnShift(at_ms=5, shift_end_ms=6, place=HERE)
    assert apply_rider(rider, start).code == "capacity"


def test_between_two_deliveries_of_an_order_nothing_is_on_board():
    order = run(offered("pdpd"), c.Accept(at_ms=3, rider_id="ann", number=1))
    for stop in (0, 1):
        who = {"rider_id": "ann", "stop": stop}
        order = run(order, c.Arrive(at_ms=4, **who), c.FinishStop(at_ms=5, **who))
        assert has_goods(order) is (stop == 0)
    assert run(order, c.Cancel(at_ms=6, by=Party.CUSTOMER)).state is OrderState.CANCELLED_CUSTOMER
    again = run(order, c.DropOut(at_ms=6, rider_id="ann", number=1))
    assert [s.state for s in again.stops[2:]] == [StopState.PLANNED] * 2


def test_a_claim_is_an_offer_accepted_at_once():
    order = run(replace(quoted("pd"), matching=Matching.HALL), c.Confirm(at_ms=1))
    events = apply(order, c.Claim(at_ms=2, rider_id="ann"))
    assert [kind_of(event.fact) for event in events] == ["offered", "accepted"]
    assert events[0].fact.route == tuple(RouteStop(order_id="o", stop=i) for i in (0, 1))
    taken = fold(order, events)
    assert (taken.state, taken.assignment.accepted_at_ms) == (OrderState.ASSIGNED, 2)
    assert apply(taken, c.Claim(at_ms=2, rider_id="bob")).code == "already_taken"


@pytest.mark.parametrize(("late_ms", "refused"), [(-1, False), (0, True), (1, True)])
def test_a_claim_and_expiry_are_never_possible_at_once(late_ms, refused):
    order = run(replace(quoted("pd"), matching=Matching.HALL), c.Confirm(at_ms=1))
    at_ms = EXPIRES + late_ms
    assert isinstance(apply(order, c.Claim(at_ms=at_ms, rider_id="ann")), Refusal) is refused
    assert isinstance(apply(order, c.Expire(at_ms=at_ms)), Refusal) is not refused
