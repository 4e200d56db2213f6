"""One simulated run: the dispatcher, `decide` and the referee under the virtual clock.

Everything is a function of (scenario, seed); the stopwatch that the caller hands in only measures.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from msgspec.structs import replace

from dispatch import commands as c
from dispatch import events as e
from dispatch.dispatcher import (
    Ask,
    Decide,
    Decided,
    Dispatcher,
    Effect,
    Known,
    PlanWritten,
    WritePlan,
)
from dispatch.engine import GREEDY, MATCHING, decide
from dispatch.model import Order
from dispatch.plan import Plan
from dispatch.referee import check_plan
from geo.errors import InvalidValue
from sim.clock import EventQueue
from sim.customers import CustomerMind
from sim.day import Day, draw_day
from sim.eventlog import EventLog
from sim.faults import Fate, Faults
from sim.kpi import KpiBook
from sim.promises import Promises
from sim.scenario import Scenario
from sim.tally import Kpis, Tally, figures
from sim.world import World

PROGRESS_EVERY_MS = 60_000
EVENTS_AT_ONCE = 200
VIOLATIONS_KEPT = 20
REFUSED = "refused"
"""The `solver` of the empty plan that stands in for one that the referee refused."""
UNAVAILABLE = "unavailable"
"""Why the offers of a plan were dropped whose write was lost."""

_CUSTOMERS, _RIDERS, _PLANS, _FAULTS = 0, 1, 2, 3

Stopwatch = Callable[[], float]
Due = Callable[[int], None] | int
"""What waits in the queue: something to call with the time, or the row of a rider to look after."""


class Since(Protocol):
    """A state to go on from, and what is bound to happen after it, as (ms, what)."""

    def enter(self, world: World) -> None: ...

    @property
    def facts(self) -> Sequence[tuple[int, Callable[[World, int], None]]]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is: orders placed, and those of them that are done or ended, of `orders`."""

    at_ms: int
    orders: int
    placed: int
    ended: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run came to.

    `decide_s` is spent in decide, `referee_s` in the referee, `total_s` in all; `refused` counts
    commands that changed nothing by (command, code), `violations` holds the first rules that plans
    broke and, in a run with faults, the first promises; `faults` counts those that happened, by
    kind, empty where none can. The digest covers every event in order.
    `tally` and `round_ms` are what the figures were made of, for runs that are put together;
    `interrupted` says that `stop` ended the run at `end_ms`.
    """

    kpis: Kpis
    tally: Tally
    round_ms: tuple[float, ...]
    interrupted: bool
    end_ms: int
    rounds: int
    events: int
    event_log_sha256: str
    decide_s: float
    referee_s: float
    total_s: float
    violations: tuple[str, ...]
    faults: Mapping[str, int]
    refused: Counter[tuple[str, str]]


def simulate(
    scenario: Scenario,
    seed: int,
    *,
    day: Day | None = None,
    stopwatch: Stopwatch,
    progress: Callable[[Progress], None] | None = None,
    on_event: Callable[[e.Event | e.RiderEvent], None] | None = None,
    stop: Callable[[], bool] | None = None,
    since: Since | None = None,
) -> Outcome:
    """Runs the scenario to its end: the given day, or the one that scenario and seed draw.

    A given day may be of another scenario (other knobs for the same orders and riders), but of
    the same place and start, else InvalidValue. `stopwatch` gives seconds from any origin;
    `progress` is called once a simulated minute; `on_event` sees every event. `stop` is asked once
    a simulated minute: at a true answer the run ends there, and its figures are those up to then.
    `since` puts a city that is under way into the world before it begins; the figures are then
    without what was placed before.
    """
    with _uncollected(scenario):
        return _Run(scenario, seed, day, stopwatch, progress, on_event, stop, since).to_the_end()


@contextmanager
def _uncollected(scenario: Scenario) -> Iterator[None]:
    """Leaves Python's cycle collector out of a run, which makes no cycles but for dispatchers that
    die: it would look through all that is alive, for nothing, again and again."""
    collects = gc.isenabled()
    if not scenario.faults.any:
        gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _fitting(day: Day, scenario: Scenario) -> Day:
    for name, of_day, told in (
        ("city", day.scenario.city.name, scenario.city.name),
        ("plane", day.scenario.plane, scenario.plane),
        ("start_ms", day.scenario.start_ms, scenario.start_ms),
    ):
        if of_day != told:
            raise InvalidValue(f"day.{name}", of_day, f"{told}, as the scenario has it")
    return day


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        day: Day | None,
        stopwatch: Stopwatch,
        progress: Callable[[Progress], None] | None,
        on_event: Callable[[e.Event | e.RiderEvent], None] | None,
        stop: Callable[[], bool] | None,
        since: Since | None,
    ) -> None:
        self._started = stopwatch()
        self._scenario, self._stopwatch = scenario, stopwatch
        self._progress, self._on_event = progress, on_event
        self._stop, self._interrupted = stop, False
        self._since = since
        travel, plane = scenario.travel.build(), scenario.plane
        if travel.law is None:
            raise InvalidValue("travel.model", scenario.travel.model, "a model with a closed form")
        day = draw_day(scenario, seed) if day is None else _fitting(day, scenario)
        self._demand = day.demand
        self._queue: EventQueue[Due] = EventQueue(scenario.start_ms)
        self._fresh = partial(
            Dispatcher, scenario.city.name, plane, travel, scenario.policy, shares=True
        )
        self._dispatcher = self._fresh()
        self._dispatcher.receive(Known(orders=(), riders=()))
        self._life, self._up = 1, True  # which dispatcher it is, and whether it hears anything
        self._fresh_events: list[e.Event | e.RiderEvent] = []  # not in the log and the book yet
        self._log = EventLog()
        self._book = KpiBook(plane, travel, self._demand.tips())
        self._world = World(
            scenario, day.crew, travel.law, seed,
            self._publish, self._publish_rider, self._wake_rider,
        )  # fmt: skip
        knobs, count = scenario.faults, len(day.crew)
        self._faults = Faults(knobs, seed, scenario.start_ms, scenario.duration_s, count)
        self._promises = Promises() if knobs.any else None
        self._world.set_clocks(self._faults.clock_off_ms)
        self._told_ms = scenario.start_ms
        self._round_ms: list[float] = []
        self._tick_s = self._decide_s = self._referee_s = 0.0
        self._refused_plans = 0
        self._violations: list[str] = []

    def to_the_end(self) -> Outcome:
        scenario, queue, world = self._scenario, self._queue, self._world
        last_ms = scenario.start_ms + scenario.horizon_s * 1000
        end_ms = scenario.start_ms
        world.start()
        if self._since is not None:
            self._go_on_from(self._since)
        self._await_customer(0)
        self._await_faults()
        orders = len(self._demand)
        while (world.placed < orders or world.live) and not self._interrupted:
            due_ms, wake_ms = queue.next_ms, self._dispatcher.wake_at()
            if wake_ms is not None and wake_ms < queue.now_ms:
                wake_ms = queue.now_ms
            first = due_ms is not None and (wake_ms is None or due_ms <= wake_ms)
            next_ms = due_ms if first else wake_ms
            if next_ms is None or next_ms > last_ms:
                end_ms = last_ms
                break
            end_ms = next_ms
            if first:
                due = queue.pop()
                if isinstance(due, int):
                    world.rider_due(due, next_ms)
                else:
                    due(next_ms)
            else:
                queue.advance(next_ms)
                self._tick(next_ms)
            if self._dispatcher.effects:
                self._carry_out(self._dispatcher.outbox())
        return self._outcome(end_ms)

    def _go_on_from(self, since: Since) -> None:
        since.enter(self._world)
        self._dispatcher.receive(self._world.known())
        for at_ms, fact in since.facts:
            self._queue.schedule(at_ms, partial(fact, self._world), _CUSTOMERS)

    # --- what happens ---

    def _publish(self, event: e.Event, after: Order) -> None:
        self._tell(event)
        if self._promises is None:
            self._dispatcher.follow(event, after)
            return
        self._promises.add(event)
        self._deliver(event, after)
        if isinstance(event.fact, e.Accepted):
            self._await_drop_out(event, event.fact)

    def _publish_rider(self, event: e.RiderEvent) -> None:
        self._tell(event)
        if self._promises is None:
            self._dispatcher.receive(event)
        else:
            self._promises.add(event)
            self._deliver(event, None)

    def _tell(self, event: e.Event | e.RiderEvent) -> None:
        if self._on_event is not None:
            self._on_event(event)
        self._fresh_events.append(event)
        if len(self._fresh_events) == EVENTS_AT_ONCE:
            self._write_down()

    def _write_down(self) -> None:
        """The log and the book take events in batches: their code and their tables are not in the
        processor's caches when a single one comes."""
        self._log.add(self._fresh_events)
        for event in self._fresh_events:
            self._book.add(event)
        self._fresh_events.clear()

    def _deliver(self, event: e.Event | e.RiderEvent, after: Order | None) -> None:
        """To the dispatcher, in a run with faults."""
        if not self._up:
            return
        for told in self._faults.deliveries(event):
            if told is event and isinstance(told, e.Event):
                self._dispatcher.follow(told, after)
            else:
                self._dispatcher.receive(told)

    def _wake_rider(self, row: int, at_ms: int) -> None:
        now_ms = self._queue.now_ms
        self._queue.schedule(at_ms if at_ms > now_ms else now_ms, row, _RIDERS)

    def _await_customer(self, i: int) -> None:
        if i < len(self._demand):
            at_ms = int(self._demand.at_ms[i])
            self._queue.schedule(at_ms, partial(self._customer_comes, i), _CUSTOMERS)

    def _customer_comes(self, i: int, now_ms: int) -> None:
        mind, customer_due = CustomerMind(self._demand.request(i)), self._world.customer_due
        self._await_customer(i + 1)
        customer_due(mind, now_ms)
        again_ms = mind.wake_at()
        if again_ms is not None:
            self._queue.schedule(again_ms, partial(customer_due, mind), _CUSTOMERS)

    # --- rounds ---

    def _tick(self, now_ms: int) -> None:
        before = self._stopwatch()
        self._dispatcher.tick(now_ms, self._world.fixes)
        self._tick_s = self._stopwatch() - before
        if now_ms - self._told_ms >= PROGRESS_EVERY_MS:
            self._told_ms = now_ms
            self._interrupted = self._stop is not None and self._stop()
            self._tell_progress(now_ms)

    def _tell_progress(self, now_ms: int) -> None:
        if self._progress is None:
            return
        placed = self._world.placed
        ended = placed - self._world.live
        self._progress(Progress(at_ms=now_ms, orders=len(self._demand), placed=placed, ended=ended))

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Decide):
                plan, took_ms = self._decide(effect)
                at_ms = self._queue.now_ms + took_ms
                self._queue.schedule(at_ms, partial(self._decided, self._life, plan), _PLANS)
            elif isinstance(effect, Ask):
                self._world.ask(effect.order_id, effect.command)
            else:
                fate = self._faults.write(self._queue.now_ms)
                at_ms = self._queue.now_ms + self._scenario.write_ms
                if fate is Fate.LATE:
                    at_ms += int(self._scenario.faults.writes.late_s * 1000)
                self._queue.schedule(at_ms, partial(self._write, self._life, effect, fate), _PLANS)

    def _write(self, life: int, effect: WritePlan, fate: Fate, now_ms: int) -> None:
        """What a dispatcher that has died sent before still stands, until the next one is up."""
        if self._up and life != self._life:
            return
        if fate is Fate.REFUSED:
            if self._up:
                self._die(0, now_ms)
            return
        dropped = []
        if fate is Fate.DROPPED:
            lost = tuple((order_id, UNAVAILABLE) for order_id, _ in effect.offers)
            if self._up:
                self._dispatcher.receive(PlanWritten(at_ms=effect.plan.at_ms, dropped=lost))
            return
        for order_id, offer in effect.offers:
            # The plan is older than its writing, and events are dated when they happen.
            refusal = self._world.ask(order_id, replace(offer, at_ms=now_ms))
            if refusal is not None:
                dropped.append((order_id, refusal.code))
        if self._up:
            written = PlanWritten(at_ms=effect.plan.at_ms, dropped=tuple(dropped))
            self._dispatcher.receive(written)

    def _decided(self, life: int, plan: Plan, now_ms: int) -> None:
        if life == self._life:
            self._dispatcher.receive(Decided(plan=plan))

    def _decide(self, effect: Decide) -> tuple[Plan, int]:
        """The plan, and after how many ms it is there."""
        policy, watch = self._scenario.policy, self._stopwatch
        dead = self._faults.solver_is_dead(self._queue.now_ms)
        late = self._faults.solver_is_late(self._queue.now_ms)
        took_ms = self._scenario.decide_ms
        if late and not dead:
            took_ms += int(self._scenario.faults.solver.late_s * 1000)
        began = watch()
        plan = decide(effect.snapshot, policy, GREEDY if dead or late else MATCHING)
        decided = watch()
        broken = check_plan(effect.snapshot, plan, policy)
        self._decide_s += decided - began
        self._referee_s += watch() - decided
        self._round_ms.append((self._tick_s + decided - began) * 1000)
        if not broken:
            return plan, took_ms
        self._refused_plans += 1
        self._violations += broken[: VIOLATIONS_KEPT - len(self._violations)]
        return Plan(at_ms=plan.at_ms, solver=REFUSED, offers=(), waits=()), took_ms

    # --- faults ---

    def _await_faults(self) -> None:
        knobs, schedule = self._scenario.faults, self._queue.schedule
        away_ms, dead_ms = int(knobs.restarts.for_s * 1000), int(knobs.phones.for_s * 1000)
        for at_ms in self._faults.restarts:
            schedule(at_ms, partial(self._die, away_ms), _FAULTS)
        for at_ms, row in self._faults.phones:
            schedule(at_ms, partial(self._silence, row, dead_ms), _FAULTS)

    def _silence(self, row: int, for_ms: int, now_ms: int) -> None:
        """A phone dies; what it has told so far is known."""
        self._faults.happened["phones"] += 1
        fixes = self._world.fixes(now_ms)
        if fixes is not None:
            self._dispatcher.receive(fixes)
        self._world.silence(row, now_ms + for_ms)

    def _await_drop_out(self, event: e.Event, fact: e.Accepted) -> None:
        after_ms = self._faults.drop_out_ms(event.at_ms)
        if after_ms is None:
            return

        def give_back(now_ms: int) -> None:
            who, number = fact.rider_id, fact.number
            command = c.DropOut(at_ms=now_ms, rider_id=who, number=number, reason="broke_down")
            if self._world.ask(event.order_id, command) is None:
                self._faults.happened["drop_outs"] += 1

        self._queue.schedule(event.at_ms + after_ms, give_back, _FAULTS)

    def _die(self, away_ms: int, now_ms: int) -> None:
        """The dispatcher is gone with all that it knew; the next one is up `away_ms` later."""
        self._dispatcher, self._up = self._fresh(), False
        self._life += 1
        self._faults.happened["restarts"] += 1
        self._queue.schedule(now_ms + away_ms, partial(self._rise, self._life), _FAULTS)

    def _rise(self, life: int, now_ms: int) -> None:
        if life == self._life:  # else it has died once more while it was away
            self._up = True
            self._faults.start_anew()
            self._dispatcher.receive(self._world.known())

    def _outcome(self, end_ms: int) -> Outcome:
        self._write_down()
        tally = self._book.tally(end_ms)
        self._tell_progress(end_ms)
        if self._promises is not None and not self._interrupted:
            self._violations += self._promises.end(end_ms)
        return Outcome(
            kpis=figures(tally, self._round_ms, self._refused_plans),
            tally=tally,
            round_ms=tuple(self._round_ms),
            interrupted=self._interrupted,
            end_ms=end_ms,
            rounds=len(self._round_ms),
            events=self._log.count,
            event_log_sha256=self._log.hexdigest(),
            decide_s=self._decide_s,
            referee_s=self._referee_s,
            total_s=self._stopwatch() - self._started,
            violations=tuple(self._violations),
            faults=self._faults.counts(),
            refused=self._world.refused,
        )
