"""`apply` and `evolve` against a second reading of the rules, written without their tables."""

from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dispatch import commands as c
from dispatch.commands import Command
from dispatch.events import FACTS, kind_of
from dispatch.lifecycle import ORDER
from dispatch.model import (
    AssignmentState,
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
    next_stop,
)
from geo.errors import IllegalMove

RIDERS = ("ann", "bob")
EXPIRES = 1_000
HERE = Place(lat=31.0, lon=121.0)
SHAPES = {
    "pd": (("pickup", 2), ("dropoff", -2)),
    "v": (("visit", 0),),
    "vv": (("visit", 0), ("visit", 0)),
    "pdd": (("pickup", 3), ("dropoff", -1), ("dropoff", -2)),
    "ppd": (("pickup", 1), ("pickup", 2), ("dropoff", -3)),
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


class Paper:
    """The same order kept by hand: `ask` gives the kinds of the facts, or a refusal's code."""

    def __init__(self, shape):
        self.kinds = [kind for kind, _ in SHAPES[shape]]
        self.loads = [load for _, load in SHAPES[shape]]
        self.stops = ["planned"] * len(self.kinds)
        self.state, self.version, self.attempts = "quoted", 0, 0
        self.number = self.rider = self.attempt = None
        self.deadline, self.returning, self.declined = 0, False, []
        self.refusals = set()

    def ask(self, command):
        answer = getattr(self, type(command).__name__)(command)
        if isinstance(answer, list):
            self.version += len(answer)
        else:
            self.refusals.add(answer)
        return answer

    @property
    def goods(self):
        picked = [
            k == "pickup" and s == "done" for k, s in zip(self.kinds, self.stops, strict=True)
        ]
        return self.state == "under_way" and any(picked)

    @property
    def ahead(self):
        return [i for i, s in enumerate(self.stops) if s in ("planned", "heading", "arrived")]

    def over(self):
        self.number = self.rider = self.attempt = None

    def back(self, blame):
        if blame and self.rider not in self.declined:
            self.declined.append(self.rider)
        self.over()
        if self.state != "open":
            self.state = "open"
            self.stops = ["planned" if i in self.ahead else s for i, s in enumerate(self.stops)]

    def end(self, state):
        self.over()
        self.state = state
        self.stops = ["skipped" if i in self.ahead else s for i, s in enumerate(self.stops)]

    def Confirm(self, q):
        if self.state != "quoted":
            return "already_placed"
        later = q.open_at_ms is not None and q.open_at_ms > q.at_ms
        self.state = "scheduled" if later else "open"
        return ["placed", "scheduled" if later else "opened"]

    def Open(self, q):
        if self.state != "scheduled":
            return "not_scheduled"
        self.state = "open"
        return ["opened"]

    def Offer(self, q):
        if q.order_version != self.version:
            return "order_moved"
        if self.state != "open":
            return "not_open"
        if self.attempt:
            return "already_offered"
        self.attempts += 1
        self.number, self.rider, self.attempt = self.attempts, q.rider_id, "offered"
        self.deadline = q.deadline_ms
        return ["offered"]

    def stale(self, q):
        if self.attempt is None or q.number != self.number:
            return "stale_assignment"
        if getattr(q, "rider_id", self.rider) != self.rider:
            return "not_your_order"
        return None

    def Accept(self, q):
        if code := self.stale(q):
            return code
        if self.attempt != "offered":
            return "already_accepted"
        if q.at_ms > self.deadline:
            return "offer_over"
        self.attempt, self.state = "accepted", "assigned"
        return ["accepted"]

    def Decline(self, q):
        if code := self.stale(q):
            return code
        if self.attempt != "offered":
            return "already_accepted"
        self.back(blame=True)
        return ["declined"]

    def TimeOut(self, q):
        if code := self.stale(q):
            return code
        if self.attempt != "offered":
            return "already_accepted"
        if q.at_ms <= self.deadline:
            return "offer_still_open"
        self.back(blame=True)
        return ["timed_out"]

    def Withdraw(self, q):
        if code := self.stale(q):
            return code
        if self.goods:
            return "goods_on_board"
        self.back(blame=False)
        return ["withdrawn"]

    def DropOut(self, q):
        if code := self.stale(q):
            return code
        if self.attempt == "offered":
            return "not_accepted"
        if self.goods:
            return "goods_on_board"
        self.back(blame=True)
        return ["dropped"]

    def report(self, q, wanted):
        if self.attempt in (None, "offered") or self.rider != q.rider_id:
            return "not_your_order"
        if not 0 <= q.stop < len(self.stops):
            return "no_such_stop"
        if self.stops[q.stop] not in wanted:
            return "wrong_stop_state"
        return None if q.stop == self.ahead[0] else "wrong_stop"

    def Head(self, q):
        if code := self.report(q, ("planned",)):
            return code
        self.stops[q.stop] = "heading"
        self.attempt, self.state = "active", "under_way"
        return ["heading"]

    def Arrive(self, q):
        if code := self.report(q, ("planned", "heading")):
            return code
        headed = self.stops[q.stop] == "heading"
        self.stops[q.stop] = "arrived"
        self.attempt, self.state = "active", "under_way"
        return ["arrived"] if headed else ["heading", "arrived"]

    def FinishStop(self, q):
        if code := self.report(q, ("arrived",)):
            return code
        self.stops[q.stop] = "done"
        if self.ahead:
            return ["stop_done"]
        self.end("returned" if self.returning else "done")
        return ["stop_done", "returned" if self.returning else "finished"]

    def FailStop(self, q):
        if code := self.report(q, ("arrived",)):
            return code
        self.stops[q.stop] = "failed"
        if not self.goods or self.returning:
            self.end("failed")
            return ["stop_failed", "failed"]
        aboard = sum(n for n, s in zip(self.loads, self.stops, strict=True) if s == "done")
        self.stops = ["skipped" if i in self.ahead else s for i, s in enumerate(self.stops)]
        self.stops.append("planned")
        self.kinds.append("dropoff")
        self.loads.append(-aboard)
        self.returning = True
        return ["stop_failed", "return_added"]

    def Cancel(self, q):
        cancellable = ("scheduled", "open", "assigned", "under_way")
        if self.state not in cancellable or q.by == "rider":
            return "not_cancellable"
        if self.goods and q.by != "system":
            return "goods_on_board"
        if self.goods:
            self.end("failed")
            return ["failed"]
        self.end(f"cancelled_{q.by}")
        return ["cancelled"]

    def Expire(self, q):
        if self.state != "open" or self.attempt:
            return "not_open"
        if q.at_ms < EXPIRES:
            return "not_yet"
        self.end("expired")
        return ["expired"]

    def Complete(self, q):
        if self.state != "done":
            return "not_done"
        self.state = "completed"
        return ["completed"]


class Life:
    """An order beside its paper twin; `choose` picks one of a list, by Hypothesis or by a seed."""

    def __init__(self, shape, choose):
        self.first = self.order = quoted(shape)
        self.paper = Paper(shape)
        self.choose = choose
        self.events = []
        self.served = []

    def ask(self, command):
        before = self.order
        answer, expected = apply(before, command), self.paper.ask(command)
        assert apply(before, command) == answer, "apply has no memory"
        if isinstance(answer, Refusal):
            assert answer.code == expected
            assert "order o" in answer.message
            return
        assert [kind_of(event.fact) for event in answer] == expected
        for event in answer:
            assert (event.order_id, event.at_ms) == ("o", command.at_ms)
            if kind_of(event.fact) == "stop_done":
                self.served.append(event.fact.stop)
        self.events += answer
        self.order = fold(before, answer)

    def go_on(self):
        """What usually comes next, so that lives reach their later parts."""
        paper, who = self.paper, {"at_ms": 9, "rider_id": self.paper.rider}
        if paper.state == "quoted":
            self.ask(c.Confirm(at_ms=5))
        elif paper.state == "open" and not paper.attempt:
            self.offer(self.choose(RIDERS))
        elif paper.attempt == "offered":
            self.ask(c.Accept(number=paper.number, **who))
        elif paper.attempt:
            stop = paper.ahead[0]
            done = paper.stops[stop] == "arrived"
            self.ask((c.FinishStop if done else c.Arrive)(stop=stop, **who))

    def offer(self, rider, late=0, deadline_ms=50):
        route = tuple(RouteStop(order_id="o", stop=i) for i in self.paper.ahead)
        self.ask(
            c.Offer(
                at_ms=1, rider_id=rider, deadline_ms=deadline_ms, route=route,
                order_version=self.paper.version + late,
            )
        )  # fmt: skip

    def do(self, kind):
        """Any command of the kind, aimed well more often than not."""
        paper, choose = self.paper, self.choose
        number, ahead = paper.number or 0, paper.ahead[:1] or [0]
        edges = [paper.deadline + d for d in (-1, 0, 1)] * 2 if paper.attempt else []
        given = {
            "at_ms": choose([0, EXPIRES - 1, EXPIRES, *edges]),
            "rider_id": choose([*[paper.rider or "ann"] * 3, *RIDERS]),
            "number": choose([number, number, number, number - 1, number + 1]),
            "stop": choose([*ahead * 4, -1, 0, 1, 2, 3]),
            "by": choose([Party.SYSTEM, *Party]),
            "open_at_ms": choose([None, EXPIRES + 5]),
            "reason": "why",
            "device_ms": 3,
        }
        if kind is c.Offer:
            self.offer(choose(RIDERS), choose([0, 0, 0, -1, 1]), choose([20, 30, 40]))
        else:
            self.ask(kind(**{f.name: given[f.name] for f in fields(kind)}))

    def check(self):
        self.the_same_on_paper()
        self.whole_events()
        self.one_attempt()
        self.stops_in_order()

    def the_same_on_paper(self):
        order, paper = self.order, self.paper
        assert order.state.value == paper.state
        assert [s.state.value for s in order.stops] == paper.stops
        assert [s.load for s in order.stops] == [(n, 0) for n in paper.loads]
        assert (order.version, order.attempts) == (paper.version, paper.attempts)
        assert (order.returning, list(order.declined_by)) == (paper.returning, paper.declined)
        live = order.assignment
        seen = (live.number, live.rider_id, live.state.value) if live else (None, None, None)
        assert seen == (paper.number, paper.rider, paper.attempt)
        assert has_goods(order) == paper.goods
        assert next_stop(order) == (paper.ahead[0] if paper.ahead else None)

    def whole_events(self):
        assert [event.seq for event in self.events] == list(range(1, len(self.events) + 1))
        assert self.order.version == len(self.events)
        assert fold(self.first, self.events) == self.order

    def one_attempt(self):
        kinds = Counter(kind_of(event.fact) for event in self.events)
        ending = ("declined", "timed_out", "withdrawn", "dropped", "finished", "returned", "failed")
        over = sum(kinds[kind] for kind in ending)
        over += sum(kind_of(e.fact) == "cancelled" and bool(e.fact.rider_id) for e in self.events)
        assert kinds["offered"] - over == (self.order.assignment is not None)
        numbers = [e.fact.number for e in self.events if kind_of(e.fact) == "offered"]
        assert numbers == list(range(1, len(numbers) + 1))

    def stops_in_order(self):
        assert self.served == sorted(self.served)
        for stop in self.order.stops:
            times = (stop.headed_at_ms, stop.arrived_at_ms, stop.done_at_ms)
            known = {"planned": 0, "heading": 1, "arrived": 2, "done": 3, "failed": 3}
            if stop.state in known:
                assert [t is not None for t in times] == [n < known[stop.state] for n in range(3)]


class OrderMachine(RuleBasedStateMachine):
    @initialize(shape=st.sampled_from(sorted(SHAPES)), data=st.data())
    def start(self, shape, data):
        self.life = Life(shape, lambda items: data.draw(st.sampled_from(items)))

    @rule(steps=st.integers(1, 4))
    def go_on(self, steps):
        for _ in range(steps):
            self.life.go_on()

    @rule(kind=st.sampled_from([c.Confirm, c.Open, c.Complete, c.Offer]))
    def place(self, kind):
        self.life.do(kind)

    @rule(kind=st.sampled_from([c.Accept, c.Decline, c.TimeOut, c.Withdraw, c.DropOut]))
    def answer(self, kind):
        self.life.do(kind)

    @rule(kind=st.sampled_from([c.Head, c.Arrive, c.FinishStop, c.FailStop]))
    def report(self, kind):
        self.life.do(kind)

    @precondition(lambda self: self.life.paper.attempts > 2 or self.life.paper.goods)
    @rule(kind=st.sampled_from([c.Cancel, c.Expire]))
    def end(self, kind):
        self.life.do(kind)

    @invariant()
    def holds(self):
        self.life.check()


OrderMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=30, deadline=None, print_blob=True
)
TestAnyCommands = OrderMachine.TestCase


def test_a_thousand_lives():
    """The same with a fixed seed and a bias to go on: every fact, every end, every refusal."""
    rare = {c.Cancel: 0.1, c.Expire: 0.2, c.Open: 0.3, c.FailStop: 0.5}
    facts, ends, refusals = set(), set(), set()
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        life = Life(sorted(SHAPES)[seed % len(SHAPES)], lambda x, rng=rng: x[rng.integers(len(x))])
        for _ in range(30):
            kind = Command.__args__[rng.integers(len(Command.__args__))]
            if rng.random() < 0.4:
                life.go_on()
            elif rng.random() < rare.get(kind, 1.0):
                life.do(kind)
        life.check()
        facts |= {kind_of(event.fact) for event in life.events}
        ends.add(life.order.state)
        refusals |= life.paper.refusals
    assert facts == set(FACTS) - {"went_on_shift", "went_off_shift"}
    assert ends >= {s for s in OrderState if ORDER.ended(s)}
    assert refusals == {
        "already_placed", "not_scheduled", "order_moved", "not_open", "already_offered",
        "stale_assignment", "not_your_order", "already_accepted", "offer_over", "offer_still_open",
        "not_accepted", "goods_on_board", "no_such_stop", "wrong_stop_state", "wrong_stop",
        "not_cancellable", "not_yet", "not_done",
    }  # fmt: skip


# --- single rules, by hand ---------------------------------------------------------------------


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
