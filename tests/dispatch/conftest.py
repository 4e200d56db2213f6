"""What the tests of the engine share: a scene fed by hand, and a toy city that drives itself."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from msgspec.structs import replace

from dispatch import commands as c
from dispatch import events as e
from dispatch.dispatcher import (
    Ask,
    Decide,
    Decided,
    Dispatcher,
    Fixes,
    Known,
    PlanWritten,
    WritePlan,
)
from dispatch.engine import decide
from dispatch.lifecycle import ORDER, STOP
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
from dispatch.policy import Policy
from dispatch.referee import check_plan
from dispatch.transitions import Refusal, apply, apply_rider, evolve, evolve_rider
from geo.arcs import arc_ms
from geo.distance import Plane
from geo.travel import StraightLine

T0 = 1_700_000_000_000
MINUTE = 60_000
PLANE = Plane(31.23, 121.47)


def place(x: float, y: float) -> Place:
    lat, lon = PLANE.lat_lon(float(x), float(y))
    return Place(lat=lat, lon=lon)


def new_order(order_id="o", here=(0.0, 0.0), there=(1000.0, 0.0), at_ms=T0, load=(1,), **fields):
    """A quoted order from `here` to `there`; `pickup` and `dropoff` change fields of its stops."""
    pickup, dropoff = fields.pop("pickup", {}), fields.pop("dropoff", {})
    stops = (
        Stop(
            kind=StopKind.PICKUP,
            **{"place": place(*here), "load": load, "approach_ms": 30_000, "leave_ms": 20_000}
            | pickup,
        ),
        Stop(
            kind=StopKind.DROPOFF,
            **{
                "place": place(*there),
                "load": tuple(-n for n in load),
                "approach_ms": 30_000,
                "leave_ms": 20_000,
            }
            | dropoff,
        ),
    )
    values = {
        "city": "toy",
        "job_type": "delivery",
        "customer_id": "c",
        "stops": stops,
        "created_at_ms": at_ms,
        "promise_from_ms": at_ms + 20 * MINUTE,
        "promise_to_ms": at_ms + 35 * MINUTE,
        "expires_at_ms": at_ms + 45 * MINUTE,
        "price_fen": 900,
    }
    return Order(id=order_id, **values | fields)


class Scene:
    """A dispatcher and the orders and riders that it knows, moved by hand."""

    def __init__(self, policy: Policy | None = None, travel=None):
        self.policy = policy or Policy()
        self.travel = travel or StraightLine()
        self.dispatcher = Dispatcher("toy", PLANE, self.travel, self.policy)
        self.orders: dict[str, Order] = {}
        self.riders: dict[str, Rider] = {}
        self.events: list[e.Event | e.RiderEvent] = []

    def publish(self, event):
        self.events.append(event)
        self.dispatcher.receive(event)

    def rider(self, rider_id, x=0.0, y=0.0, at_ms=T0, end_ms=T0 + 480 * MINUTE, **fields):
        known = self.riders.get(rider_id) or Rider(id=rider_id, city="toy", **fields)
        start = c.GoOnShift(at_ms=at_ms, shift_end_ms=end_ms, place=place(x, y))
        for event in apply_rider(known, start):
            self.riders[rider_id] = known = evolve_rider(known, event)
            self.publish(event)
        return known

    def off(self, rider_id, at_ms=T0):
        for event in apply_rider(self.riders[rider_id], c.GoOffShift(at_ms=at_ms)):
            self.riders[rider_id] = evolve_rider(self.riders[rider_id], event)
            self.publish(event)

    def place(self, order_id, *args, open_at_ms=None, **fields):
        order = new_order(order_id, *args, **fields)
        self.orders[order_id] = order
        self.do(order_id, c.Confirm(at_ms=order.created_at_ms, open_at_ms=open_at_ms))
        return order

    def do(self, order_id, command):
        """Applies the command, which must be legal, and publishes its events."""
        answer = apply(self.orders[order_id], command)
        assert not isinstance(answer, Refusal), answer
        for event in answer:
            self.orders[order_id] = evolve(self.orders[order_id], event)
            self.publish(event)
        return answer

    def offer(self, order_id, rider_id, at_ms=T0, route=None, deadline_ms=None):
        order = self.orders[order_id]
        if route is None:
            route = self.route(rider_id) + [(order_id, i) for i in range(len(order.stops))]
        self.do(
            order_id,
            c.Offer(
                at_ms=at_ms,
                rider_id=rider_id,
                deadline_ms=at_ms + 20_000 if deadline_ms is None else deadline_ms,
                route=tuple(RouteStop(order_id=o, stop=s) for o, s in route),
                order_version=order.version,
            ),
        )

    def accept(self, order_id, at_ms=T0):
        live = self.orders[order_id].assignment
        self.do(order_id, c.Accept(at_ms=at_ms, rider_id=live.rider_id, number=live.number))

    def give(self, order_id, rider_id, at_ms=T0, route=None):
        self.offer(order_id, rider_id, at_ms, route)
        self.accept(order_id, at_ms)

    def step(self, command, order_id, stop, at_ms, **fields):
        """A report of the order's rider: Head, Arrive, FinishStop, FailStop."""
        who = self.orders[order_id].assignment.rider_id
        return self.do(order_id, command(at_ms=at_ms, rider_id=who, stop=stop, **fields))

    def serve(self, order_id, stop, at_ms):
        self.step(c.Arrive, order_id, stop, at_ms)
        self.step(c.FinishStop, order_id, stop, at_ms)

    def route(self, rider_id, dispatcher=None):
        """The rider's route in the dispatcher's columns as (order id, stop)."""
        return view(dispatcher or self.dispatcher)["riders"][rider_id]["route"]

    def column(self, name, rider_id):
        columns = self.dispatcher.columns
        value = columns.riders[name][columns.rider_row[rider_id]]
        return value.tolist()

    def snapshot(self, at_ms=T0):
        return self.dispatcher.columns.snapshot(at_ms)

    def decide(self, at_ms=T0):
        """Ticks, decides what is asked, and gives (snapshot, plan); the plan is not taken over."""
        self.dispatcher.tick(at_ms)
        asked = [x for x in self.dispatcher.outbox() if isinstance(x, Decide)]
        assert len(asked) == 1, "a round is due"
        return asked[0].snapshot, decide(asked[0].snapshot, self.policy)

    def asks(self, at_ms):
        """(order id, command) of what a tick at `at_ms` asks; a round is answered with nothing."""
        self.dispatcher.tick(at_ms)
        found = []
        for effect in self.dispatcher.outbox():
            if isinstance(effect, Ask):
                found.append((effect.order_id, effect.command))
            elif isinstance(effect, Decide):
                plan = replace(decide(effect.snapshot, self.policy), offers=())
                self.dispatcher.receive(Decided(plan=plan))
        return found

    def known(self):
        return known_of(self.orders, self.riders)

    def restarted(self):
        """A second dispatcher that starts from what the store would give now."""
        second = Dispatcher("toy", PLANE, self.travel, self.policy)
        second.receive(self.known())
        return second


def known_of(orders: dict[str, Order], riders: dict[str, Rider]) -> Known:
    return Known(
        orders=tuple(o for o in orders.values() if not ORDER.ended(o.state)),
        riders=tuple(r for r in riders.values() if r.state is RiderState.ON),
    )


def view(dispatcher: Dispatcher) -> dict:
    """What a dispatcher's columns say, by ids instead of rows."""
    columns = dispatcher.columns
    stop_of = {}
    for order_id, row in columns.order_row.items():
        for index, at in enumerate(columns.rows_of(order_id)):
            stop_of[at] = (order_id, index)
        assert columns.order_ids[row] == order_id
    riders = {}
    for rider_id, row in columns.rider_row.items():
        assert columns.rider_ids[row] == rider_id
        riders[rider_id] = {
            "route": [stop_of[at] for at in columns.route(row)],
            "load": tuple(columns.riders["load"][row].tolist()),
            "locked": int(columns.riders["locked"][row]),
            "open": bool(columns.riders["open"][row]),
        }
    waiting = {o for o, row in columns.order_row.items() if columns.orders["waiting"][row]}
    return {"riders": riders, "waiting": waiting}


def canonical(plan) -> tuple:
    """What a plan decides, without the rows' order, which depends on a dispatcher's past."""
    return (
        plan.at_ms,
        tuple(sorted((o.order_id, o.order_version, o.rider_id, o.route, o.pickup_ms, o.done_ms)
                     for o in plan.offers)),
        tuple(sorted((w.order_id, w.reason) for w in plan.waits)),
    )  # fmt: skip


@dataclass(slots=True, eq=False)
class Walker:
    """A rider of the toy city: where he is, what he holds, what he is doing until when."""

    rider: Rider
    x: float
    y: float
    route: list[tuple[str, int]] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    turn: int = 0  # what was scheduled under another turn is over
    doing: str = ""  # ride, stand or leave
    target: tuple[str, int] | None = None
    ride: tuple[float, float, float, float, int, int] = (0.0, 0.0, 0.0, 0.0, 0, 1)

    def at(self, now_ms):
        if self.doing != "ride":
            return self.x, self.y
        x0, y0, x1, y1, t0, t1 = self.ride
        share = min(1.0, (now_ms - t0) / max(1, t1 - t0))
        return x0 + (x1 - x0) * share, y0 + (y1 - y0) * share


class Toy:
    """A small city that drives a dispatcher: riders with moods, customers who cancel.

    The shares say how often a rider accepts, declines (else he lets an offer run out), drops out,
    fails a stop or goes his own way, how often a customer cancels and an operator withdraws.
    `lag_ms` delays what the dispatcher hears of the world, `decide_ms` its plans.
    """

    def __init__(
        self, seed, policy=None, *, riders=8, orders=40, minutes=60, accept=0.8, decline=0.1,
        cancel=0.0, fail=0.0, drop_out=0.0, withdraw=0.0, deviate=0.0, scheduled=0.0, visits=0.0,
        skilled=0.0, breaks=False, lag_ms=0, decide_ms=0, leave_ms=20_000, capacity=(4,),
        ride_max_ms=None, windows=0.0, on_round=None,
    ):  # fmt: skip
        self.rng = np.random.default_rng(seed)
        self.policy = policy or Policy(tick_ms=10_000, complete_after_ms=10 * MINUTE)
        self.travel = StraightLine()
        self.dispatcher = Dispatcher("toy", PLANE, self.travel, self.policy)
        self.accept, self.decline, self.cancel, self.fail = accept, decline, cancel, fail
        self.drop_out, self.withdraw, self.deviate = drop_out, withdraw, deviate
        self.scheduled, self.visits, self.skilled = scheduled, visits, skilled
        self.breaks, self.lag_ms, self.decide_ms, self.leave_ms = (
            breaks,
            lag_ms,
            decide_ms,
            leave_ms,
        )
        self.ride_max_ms, self.windows, self.on_round = ride_max_ms, windows, on_round
        self.now = self.ticked = T0
        self.orders: dict[str, Order] = {}
        self.walkers: dict[str, Walker] = {}
        self.events: list[e.Event | e.RiderEvent] = []
        self.refused: Counter[tuple[str, str]] = Counter()
        self.reasons: Counter[str] = Counter()
        self.rounds = 0
        self.violations: list[str] = []
        self.audits: list = []  # called after each message to the dispatcher
        self._heap: list = []
        self._n = 0
        self._unplaced = orders
        self._hall = 3000.0
        for i in range(riders):
            x, y = self._spot()
            rider = Rider(
                id=f"r{i}", city="toy", capacity=capacity,
                speed_mps=float(self.rng.uniform(4.0, 8.0)),
                skills=("ice",) if self.rng.random() < 0.5 else (),
            )  # fmt: skip
            self.walkers[rider.id] = Walker(rider, x, y)
            self._at(
                T0 + int(self.rng.uniform(0, 5 * MINUTE)), self._start_shift, rider.id, minutes
            )
        for i in range(orders):
            self._at(T0 + int(self.rng.uniform(0, minutes * MINUTE)), self._place, i)
        self._at(T0, self._send_fixes)
        self.last_ms = T0 + (minutes + 600) * MINUTE

    # --- the clock ---

    def _at(self, at_ms, call, *args):
        self._n += 1
        heapq.heappush(self._heap, (int(at_ms), self._n, call, args))

    def run(self, until_ms=None):
        """Goes on to `until_ms`, or until nothing is due any more."""
        while True:
            due = [self._heap[0][0]] if self._heap else []
            wake = self.dispatcher.wake_at()
            if wake is not None:
                due.append(max(wake, self.now, self.ticked + 1))
            if not due or (until_ms is not None and min(due) > until_ms):
                self.now = max(self.now, until_ms or 0)
                return self
            assert min(due) <= self.last_ms, f"the city finds no rest: {self._unrest()}"
            self.now = min(due)
            if self._heap and self._heap[0][0] <= self.now:
                _, _, call, args = heapq.heappop(self._heap)
                call(*args)
            else:
                self.ticked = self.now
                self.dispatcher.tick(self.now)
            self._carry_out()

    def _unrest(self):
        return {o.id: o.state.value for o in self.orders.values() if not ORDER.ended(o.state)}

    @property
    def quiet(self):
        return not self._unplaced and all(
            ORDER.ended(o.state) or o.state is OrderState.DONE for o in self.orders.values()
        )

    @property
    def riders(self):
        return {w.rider.id: w.rider for w in self.walkers.values()}

    # --- the dispatcher ---

    def restart(self):
        """Another dispatcher starts from what the store knows; plans in the making are lost."""
        self.dispatcher = Dispatcher("toy", PLANE, self.travel, self.policy)
        self.dispatcher.receive(known_of(self.orders, self.riders))
        plans = (Decided, PlanWritten)
        self._heap = [
            due
            for due in self._heap
            if due[2] != self._write and not (due[2] == self.tell and isinstance(due[3][0], plans))
        ]
        heapq.heapify(self._heap)

    def tell(self, message):
        self.dispatcher.receive(message)
        for audit in self.audits:
            audit(self, message)

    def _carry_out(self):
        while effects := self.dispatcher.outbox():
            for effect in effects:
                if isinstance(effect, Decide):
                    self._decide(effect.snapshot)
                elif isinstance(effect, WritePlan):
                    self._later(self.decide_ms, self._write, effect)
                else:
                    self.ask(effect.order_id, effect.command)

    def _later(self, ms, call, *args):
        """At once without a delay, so that a world without lag has no plan in flight."""
        if ms:
            self._at(self.now + ms, call, *args)
        else:
            call(*args)

    def _decide(self, snapshot):
        plan = decide(snapshot, self.policy)
        self.rounds += 1
        self.violations += check_plan(snapshot, plan, self.policy)
        self.reasons.update(w.reason for w in plan.waits)
        if self.on_round is not None:
            self.on_round(snapshot, plan)
        self._later(self.decide_ms, self.tell, Decided(plan=plan))

    def _write(self, effect):
        dropped = []
        for order_id, command in effect.offers:
            answer = self.ask(order_id, command)
            if isinstance(answer, Refusal):
                dropped.append((order_id, answer.code))
        written = PlanWritten(at_ms=effect.plan.at_ms, dropped=tuple(dropped))
        self._later(self.lag_ms, self.tell, written)

    def _send_fixes(self):
        if self.quiet:
            return
        self._at(self.now + 10_000, self._send_fixes)
        self.tell(self.fixes())

    def fixes(self):
        on = [w for w in self.walkers.values() if w.rider.state is RiderState.ON]
        xy = np.array([w.at(self.now) for w in on]).reshape(-1, 2)
        lat, lon = PLANE.lat_lon(xy[:, 0], xy[:, 1])
        return Fixes(
            rider_id=tuple(w.rider.id for w in on), lat=lat, lon=lon,
            at_ms=np.full(len(on), self.now, np.int64),
        )  # fmt: skip

    # --- commands ---

    def ask(self, order_id, command):
        answer = apply(self.orders[order_id], command)
        if isinstance(answer, Refusal):
            self.refused[type(command).__name__, answer.code] += 1
            return answer
        for event in answer:
            before = self.orders[order_id]
            self.orders[order_id] = evolve(before, event)
            self.events.append(event)
            self._later(self.lag_ms, self.tell, event)
            self._react(before, self.orders[order_id], event)
        return answer

    def _ask_rider(self, walker, command):
        answer = apply_rider(walker.rider, command, len(walker.held))
        if isinstance(answer, Refusal):
            self.refused[type(command).__name__, answer.code] += 1
            return False
        for event in answer:
            walker.rider = evolve_rider(walker.rider, event)
            self.events.append(event)
            self._later(self.lag_ms, self.tell, event)
        return True

    # --- riders ---

    def _start_shift(self, rider_id, minutes):
        walker = self.walkers[rider_id]
        end_ms = self.now + int(self.rng.uniform(0.6, 1.4) * minutes * MINUTE)
        start = c.GoOnShift(at_ms=self.now, shift_end_ms=end_ms, place=place(walker.x, walker.y))
        self._ask_rider(walker, start)
        pause = self.now + int(self.rng.uniform(0.2, 0.5) * minutes * MINUTE)
        self._at(pause if self.breaks else end_ms, self._end_shift, rider_id, minutes)

    def _end_shift(self, rider_id, minutes):
        walker = self.walkers[rider_id]
        if not self._ask_rider(walker, c.GoOffShift(at_ms=self.now)):
            self._at(self.now + MINUTE, self._end_shift, rider_id, minutes)
        elif self.breaks and not self.quiet:
            self._at(self.now + 5 * MINUTE, self._start_shift, rider_id, minutes)

    def _react(self, before, order, event):
        fact, live = event.fact, before.assignment
        if isinstance(fact, e.Offered):
            self._consider(order.id, fact)
        elif isinstance(fact, e.Accepted):
            self._take(order)
        elif isinstance(fact, e.StopDone | e.StopFailed):
            walker = self.walkers[fact.rider_id]
            walker.route = [s for s in walker.route if s != (order.id, fact.stop)]
        elif isinstance(fact, e.ReturnAdded):
            walker = self.walkers[fact.rider_id]
            rest = [s for s in walker.route if s[0] != order.id]
            walker.route = [(order.id, len(order.stops) - 1), *rest]
        elif live is not None and order.assignment is None:
            walker = self.walkers[live.rider_id]
            walker.held.discard(order.id)
            walker.route = [s for s in walker.route if s[0] != order.id]
            self._turn(walker)

    def _consider(self, order_id, fact):
        mood = self.rng.random()
        at_ms = self.now + int(self.rng.uniform(500, 21_000))
        who = {"rider_id": fact.rider_id, "number": fact.number}
        if mood < self.accept:
            self._at(at_ms, lambda: self.ask(order_id, c.Accept(at_ms=self.now, **who)))
        elif mood < self.accept + self.decline:
            self._at(at_ms, lambda: self.ask(order_id, c.Decline(at_ms=self.now, **who)))

    def _take(self, order):
        live = order.assignment
        walker = self.walkers[live.rider_id]
        walker.held.add(order.id)
        told = [(s.order_id, s.stop) for s in live.route]
        own = [s for s in told if s in walker.route or s[0] == order.id]
        walker.route = own + [s for s in walker.route if s not in own]
        self._turn(walker)
        wait_ms = int(self.rng.uniform(0, 15 * MINUTE))
        number = live.number
        if self.rng.random() < self.drop_out:
            who = {"rider_id": live.rider_id, "number": number}
            self._at(
                self.now + wait_ms, lambda: self.ask(order.id, c.DropOut(at_ms=self.now, **who))
            )
        elif self.rng.random() < self.withdraw:
            self._at(
                self.now + wait_ms,
                lambda: self.ask(order.id, c.Withdraw(at_ms=self.now, number=number)),
            )

    def _turn(self, walker):
        """His route has changed: he stays where he stands, and turns when he rides elsewhere."""
        if walker.doing == "leave":
            return
        if walker.doing == "stand" and walker.target in walker.route:
            return
        if walker.doing == "ride" and walker.route and walker.route[0] == walker.target:
            return
        walker.x, walker.y = walker.at(self.now)
        walker.turn += 1
        walker.doing, walker.target = "", None
        self._at(self.now, self._go, walker, walker.turn)

    def _go(self, walker, turn):
        if turn != walker.turn or walker.doing or not walker.route:
            return
        walker.target = walker.route[0]
        if self.rng.random() < self.deviate:
            firsts = {}
            for order_id, stop in walker.route:
                firsts.setdefault(order_id, (order_id, stop))
            walker.target = list(firsts.values())[int(self.rng.integers(len(firsts)))]
        order_id, index = walker.target
        stop = self.orders[order_id].stops[index]
        x, y = PLANE.xy(stop.place.lat, stop.place.lon)
        law = self.travel.law
        ms = arc_ms(
            walker.x, walker.y, x, y, law.metric, law.ms_per_m(walker.rider.speed_mps), 1
        )  # fmt: skip
        walker.ride = (walker.x, walker.y, x, y, self.now, self.now + ms)
        walker.doing = "ride"
        if stop.state is StopState.PLANNED:
            self.ask(order_id, c.Head(at_ms=self.now, rider_id=walker.rider.id, stop=index))
        self._at(self.now + ms, self._arrive, walker, walker.turn)

    def _arrive(self, walker, turn):
        if turn != walker.turn:
            return
        order_id, index = walker.target
        walker.x, walker.y = walker.at(self.now)
        walker.doing = "stand"
        self.ask(order_id, c.Arrive(at_ms=self.now, rider_id=walker.rider.id, stop=index))
        stop = self.orders[order_id].stops[index]
        ready = max(stop.earliest_ms or 0, self.now + stop.approach_ms)
        self._at(ready, self._finish, walker, walker.turn)

    def _finish(self, walker, turn):
        if turn != walker.turn:
            return
        order_id, index = walker.target
        who = {"at_ms": self.now, "rider_id": walker.rider.id, "stop": index}
        walker.doing, walker.target = "leave", None
        walker.turn += 1
        fails = self.rng.random() < self.fail
        self.ask(order_id, c.FailStop(**who, reason="shut") if fails else c.FinishStop(**who))
        leave_ms = self.orders[order_id].stops[index].leave_ms
        self._at(self.now + leave_ms, self._leave, walker, walker.turn)

    def _leave(self, walker, turn):
        if turn == walker.turn:
            walker.doing = ""
            self._go(walker, turn)

    # --- customers ---

    def _spot(self):
        x, y = self.rng.uniform(-3000, 3000, 2)
        return float(x), float(y)

    def _place(self, i):
        self._unplaced -= 1
        rng, order_id = self.rng, f"o{i}"
        merchant = int(rng.integers(6))
        angle = merchant * np.pi / 3
        here = (1500 * float(np.cos(angle)), 1500 * float(np.sin(angle)))
        ready = self.now + int(rng.uniform(0, 15 * MINUTE))
        latest = ready + 25 * MINUTE if rng.random() < self.windows else None
        order = new_order(
            order_id, here, self._spot(), self.now,
            load=(int(rng.integers(1, 3)),),
            skills=("ice",) if rng.random() < self.skilled else (),
            ride_max_ms=self.ride_max_ms,
            pickup={"earliest_ms": ready, "place_id": f"m{merchant}", "leave_ms": self.leave_ms},
            dropoff={"latest_ms": latest, "leave_ms": self.leave_ms},
        )  # fmt: skip
        if rng.random() < self.visits:
            visit = Stop(
                kind=StopKind.VISIT, place=place(*self._spot()), approach_ms=5 * MINUTE,
                leave_ms=self.leave_ms,
            )  # fmt: skip
            order = replace(order, stops=(visit,) * int(rng.integers(1, 3)))
        self.orders[order_id] = order
        open_at = self.now + 5 * MINUTE if rng.random() < self.scheduled else None
        self.ask(order_id, c.Confirm(at_ms=self.now, open_at_ms=open_at))
        if rng.random() < self.cancel:
            by = [Party.CUSTOMER, Party.MERCHANT, Party.SYSTEM][int(rng.integers(3))]
            self._at(
                self.now + int(rng.uniform(0, 30 * MINUTE)),
                lambda: self.ask(order_id, c.Cancel(at_ms=self.now, by=by)),
            )


def check_columns(dispatcher: Dispatcher, orders: dict[str, Order], riders: dict[str, Rider]):
    """The dispatcher's columns against what follows from the orders alone.

    For a dispatcher that has heard everything and has no plan in flight.
    """
    seen = view(dispatcher)
    live = {
        o.id: o
        for o in orders.values()
        if o.version and o.state is not OrderState.DONE and not ORDER.ended(o.state)
    }
    assert set(dispatcher.columns.order_row) == set(live)
    free = [o for o in live.values() if o.state is OrderState.OPEN and o.assignment is None]
    now_ms, policy = dispatcher._now_ms, dispatcher.policy
    ahead_ms = policy.commit_ahead_ms + policy.look_ahead_ms
    asked = {
        o.id
        for o in free
        if now_ms < o.expires_at_ms
        and (o.stops[0].earliest_ms or 0) - o.stops[0].approach_ms - ahead_ms <= now_ms
    }
    assert seen["waiting"] == asked
    for order in live.values():
        row = dispatcher.columns.order_row[order.id]
        columns = dispatcher.columns.orders
        ahead = [i for i, s in enumerate(order.stops) if not STOP.ended(s.state)]
        assert columns["version"][row] == order.version
        assert columns["stop_count"][row] == len(ahead)
        if ahead:
            assert columns["first_index"][row] == ahead[0]
            first = dispatcher.columns.stop_row(order.id, ahead[0])
            assert columns["first_stop"][row] == first
    for rider_id, has in seen["riders"].items():
        theirs = [o for o in live.values() if o.assignment and o.assignment.rider_id == rider_id]
        ahead = [
            (o.id, i)
            for o in theirs
            for i, s in enumerate(o.stops)
            if not STOP.ended(s.state)
        ]  # fmt: skip
        assert sorted(has["route"]) == sorted(ahead)
        for order in theirs:
            own = [i for o, i in has["route"] if o == order.id]
            assert own == sorted(own), "an order's stops stand in their order"
        done = [s.load for o in theirs for s in o.stops if s.state is StopState.DONE]
        assert has["load"][0] == sum(load[0] for load in done)
        asked = any(o.assignment.state is AssignmentState.OFFERED for o in theirs)
        on = rider_id in riders and riders[rider_id].state is RiderState.ON
        assert has["open"] == (on and not asked), rider_id
        standing = has["route"] and (
            orders[has["route"][0][0]].stops[has["route"][0][1]].state is StopState.ARRIVED
        )
        assert (has["locked"] == 1) == bool(standing), (rider_id, has)
    for order in live.values():
        arrived = [i for i, s in enumerate(order.stops) if s.state is StopState.ARRIVED]
        if arrived and order.assignment:
            route = seen["riders"][order.assignment.rider_id]["route"]
            standing = [orders[o].stops[i].state is StopState.ARRIVED for o, i in route]
            assert standing[0], "nothing comes before the stop where the rider stands"


class Kit:
    """The helpers of this folder under one name."""

    T0, MINUTE, PLANE = T0, MINUTE, PLANE
    Scene, Toy = Scene, Toy
    place = staticmethod(place)
    cancel = staticmethod(lambda at_ms: c.Cancel(at_ms=at_ms, by=Party.CUSTOMER))
    new_order = staticmethod(new_order)
    view = staticmethod(view)
    known_of = staticmethod(known_of)
    canonical = staticmethod(canonical)
    check_columns = staticmethod(check_columns)


@pytest.fixture(scope="session")
def kit():
    return Kit


@pytest.fixture
def scene():
    """An empty scene with the shipped policy."""
    return Scene()
