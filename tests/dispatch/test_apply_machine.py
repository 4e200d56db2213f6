"""`apply` and `fold` under any commands, against a second reading of the rules kept by hand."""

from collections import Counter

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import fields, replace

from api.codec import decode_event, encode_event, order_from_json, order_to_json
from dispatch import commands as c
from dispatch.commands import Command
from dispatch.events import FACTS, kind_of
from dispatch.lifecycle import ORDER
from dispatch.model import Matching, Order, OrderState, Party, Place, RouteStop, Stop, StopKind
from dispatch.transitions import Refusal, apply, fold, has_goods, next_stop

RIDERS = ("ann", "bob", "eve")
EXPIRES = 1_000
HERE = Place(lat=31.0, lon=121.0)
ENDS = ("completed", "cancelled", "expired", "failed", "returned")
# An order's stops, and what is on board once each is done: None for nothing at all.
SHAPES = {
    "pd": [("pickup", (2, 0), (2, 0)), ("dropoff", (-2, 0), None)],
    "v": [("visit", (0,), None)],
    "vv": [("visit", (0,), None), ("visit", (0,), None)],
    "pdd": [
        ("pickup", (3, 1), (3, 1)), ("dropoff", (-1, -1), (2, 0)), ("dropoff", (-2, 0), None),
    ],
    "ppd": [("pickup", (1,), (1,)), ("pickup", (2,), (3,)), ("dropoff", (-3,), None)],
    "pdpd": [
        ("pickup", (1,), (1,)), ("dropoff", (-1,), None),
        ("pickup", (2, 3), (2, 3)), ("dropoff", (-2, -3), None),
    ],
    "ppdpd": [
        ("pickup", (1,), (1,)), ("pickup", (1,), (2,)), ("dropoff", (-1,), (1,)),
        ("pickup", (0, 0, 4), (1, 0, 4)), ("dropoff", (-1, 0, -4), None),
    ],
    "ragged": [("pickup", (0, 5), (0, 5)), ("dropoff", (0, -5, 0), None)],
    "papers": [("pickup", (0,), (0,)), ("dropoff", (0,), None)],
    "pvd": [("pickup", (1,), (1,)), ("visit", (0,), (1,)), ("dropoff", (-1,), None)],
}  # fmt: skip


def quoted(shape, matching=Matching.DISPATCH):
    stops = tuple(
        Stop(kind=StopKind(kind), place=replace(HERE, lat=31.0 + i / 100), load=load)
        for i, (kind, load, _) in enumerate(SHAPES[shape])
    )
    return Order(
        id="o", city="x", job_type="t", customer_id="c", stops=stops, created_at_ms=0,
        promise_from_ms=0, promise_to_ms=500, expires_at_ms=EXPIRES, price_fen=1, matching=matching,
    )  # fmt: skip


class Paper:
    """The same order kept by hand: `ask` gives the kinds of the facts, or a refusal's code."""

    def __init__(self, shape, hall):
        self.loads = [load for _, load, _ in SHAPES[shape]]
        self.after = [aboard for _, _, aboard in SHAPES[shape]]
        self.stops = ["planned"] * len(self.loads)
        self.hall = hall
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
    def aboard(self):
        """The load on board, None for nothing."""
        done = [i for i, s in enumerate(self.stops) if s == "done"]
        return self.after[done[-1]] if done and self.state == "under_way" else None

    @property
    def goods(self):
        return self.aboard is not None

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
        if self.hall:
            return "in_hall"
        if self.attempt:
            return "already_offered"
        if q.at_ms >= EXPIRES:
            return "expired"
        self.attempts += 1
        self.number, self.rider, self.attempt = self.attempts, q.rider_id, "offered"
        self.deadline = q.deadline_ms
        return ["offered"]

    def Claim(self, q):
        if not self.hall:
            return "not_in_hall"
        if self.state in ("assigned", "under_way", "done"):
            return "already_taken"
        if self.state != "open":
            return "not_open"
        if q.at_ms >= EXPIRES:
            return "expired"
        if q.rider_id in self.declined:
            return "given_back"
        self.attempts += 1
        self.number, self.rider, self.attempt = self.attempts, q.rider_id, "accepted"
        self.state, self.deadline = "assigned", q.at_ms
        return ["offered", "accepted"]

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
        back = tuple(-n for n in self.aboard)
        self.stops = ["skipped" if i in self.ahead else s for i, s in enumerate(self.stops)]
        self.stops.append("planned")
        self.loads.append(back)
        self.after.append(None)
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
        matching = choose(list(Matching))
        self.first = self.order = quoted(shape, matching)
        self.paper = Paper(shape, matching is Matching.HALL)
        self.choose = choose
        self.events = []
        self.served = []

    def ask(self, command):
        before, goods, ended = self.order, self.paper.goods, ORDER.ended(self.order.state)
        answer, expected = apply(before, command), self.paper.ask(command)
        assert apply(before, command) == answer, "apply has no memory"
        if isinstance(answer, Refusal):
            assert answer.code == expected
            assert "order o" in answer.message
            return
        assert not ended, "an order that has ended refuses everything"
        assert [kind_of(event.fact) for event in answer] == expected
        assert not (goods and "cancelled" in expected), "nobody cancels what is on board"
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
        elif paper.state == "open" and paper.hall:
            self.ask(c.Claim(at_ms=5, rider_id=self.choose(RIDERS)))
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
            "route": (),
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
        self.one_end()
        self.as_json()

    def the_same_on_paper(self):
        order, paper = self.order, self.paper
        assert order.state.value == paper.state
        assert [s.state.value for s in order.stops] == paper.stops
        assert [s.load for s in order.stops] == paper.loads
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

    def one_end(self):
        """What money is settled by: one end, at the end, and none before."""
        kinds = [kind_of(event.fact) for event in self.events]
        ends = [i for i, kind in enumerate(kinds) if kind in ENDS]
        assert ends == ([len(kinds) - 1] if ORDER.ended(self.order.state) else [])

    def as_json(self):
        again = [decode_event(encode_event(event)) for event in self.events]
        first = again[0].fact.order if again else self.first
        assert fold(first, again) == self.order
        assert order_from_json(order_to_json(self.order)) == self.order


class OrderMachine(RuleBasedStateMachine):
    @initialize(shape=st.sampled_from(sorted(SHAPES)), data=st.data())
    def start(self, shape, data):
        self.life = Life(shape, lambda items: data.draw(st.sampled_from(items)))

    @rule(steps=st.integers(1, 4))
    def go_on(self, steps):
        for _ in range(steps):
            self.life.go_on()

    @rule(kind=st.sampled_from([c.Confirm, c.Open, c.Complete, c.Offer, c.Claim]))
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


def test_two_thousand_lives():
    """The same with a fixed seed and a bias to go on: every fact, every end, every refusal."""
    rare = {c.Cancel: 0.1, c.Expire: 0.2, c.Open: 0.3, c.FailStop: 0.5}
    facts, ends, refusals = set(), set(), set()
    for seed in range(2000):
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
        "not_cancellable", "not_yet", "not_done", "in_hall", "not_in_hall", "already_taken",
        "expired", "given_back",
    }  # fmt: skip
