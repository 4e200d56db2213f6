"""A benchmark day to its end: the live dispatcher, `decide` and referee on the virtual clock.

The benchmark's rules are flags of the policy, not a second engine. Within a minute couriers act
first (shifts begin, arrivals, pickups, drop-offs), then orders are placed, then the round is held,
then couriers leave: a decision never sees an order before its placement. May import dispatch and
the rest of `sim.mdrp`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from dispatch.dispatcher import Ask, Decide, Decided, Dispatcher, PlanWritten, WritePlan
from dispatch.engine import decide
from dispatch.plan import Plan
from dispatch.policy import Policy
from dispatch.referee import check_plan
from dispatch.snapshot import Snapshot
from geo.errors import InvalidValue
from sim.clock import EventQueue
from sim.mdrp.couriers import CITY, MIDNIGHT_MS, PLANE, ROUND, TRAVEL, Couriers, Due
from sim.mdrp.instance import Instance, read_instance
from sim.mdrp.metrics import measure
from sim.mdrp.policy import RULES, mdrp_policy
from sim.mdrp.solution import MINUTE_MS, Solution, write_files

VARIATIONS = ("assignment updates",)
"""The variations of the published rules that a run makes use of."""

Progress = Callable[[int, int, int], None]
"""Told after each round: the minute of the day, orders placed, orders delivered."""
Stopwatch = Callable[[], float]
"""Seconds from any origin, as `time.perf_counter`; it only measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MdrpResult:
    """A day that was driven: what was done, its measures, and the rules that plans broke."""

    instance: Instance
    solution: Solution
    metrics: dict[str, object]
    violations: tuple[str, ...]


def run_day(
    folder: Path,
    policy: Policy | None = None,
    progress: Progress | None = None,
    stopwatch: Stopwatch | None = None,
) -> MdrpResult:
    """Drives the day in `folder` to its end.

    Raises what `read_instance` raises, and InvalidValue for a policy without the benchmark's rules.
    """
    chosen = policy or mdrp_policy()
    _check_rules(chosen)
    return _Run(read_instance(folder), chosen, progress, stopwatch).to_the_end()


def write_solution(result: MdrpResult, out_dir: Path) -> None:
    """Writes the three files of the benchmark's evaluator into `out_dir`."""
    write_files(result.instance, result.solution, out_dir)


def _check_rules(policy: Policy) -> None:
    for name, needed in RULES.items():
        if getattr(policy, name) is not needed:
            raise InvalidValue(f"policy.{name}", not needed, f"{needed}, a rule of the benchmark")
    if policy.tick_ms % MINUTE_MS:
        raise InvalidValue("policy.tick_ms", policy.tick_ms, f"a multiple of {MINUTE_MS}")


class _Run:
    def __init__(
        self,
        instance: Instance,
        policy: Policy,
        progress: Progress | None,
        stopwatch: Stopwatch | None,
    ) -> None:
        self._instance, self._policy = instance, policy
        self._progress, self._stopwatch = progress, stopwatch
        self._queue: EventQueue[Due] = EventQueue(MIDNIGHT_MS)
        self._dispatcher = Dispatcher(CITY, PLANE, TRAVEL, policy, shares=True)
        self._couriers = Couriers(instance, self._queue, self._dispatcher.receive)
        self._next_tick: int | None = None
        self._round_s: list[float] = []
        self._rounds = 0
        self._refused_plans = 0
        self._violations: list[str] = []

    def to_the_end(self) -> MdrpResult:
        while len(self._queue):
            due = self._queue.pop()
            due(self._queue.now_ms)
            self._arm(self._queue.now_ms)
        solution = self._couriers.solution()
        metrics = measure(self._instance, solution)
        metrics["rounds"] = self._rounds
        if self._round_s:
            metrics["round_ms_p95"] = float(np.percentile(self._round_s, 95)) * 1000
        metrics["refused_plans"] = self._refused_plans
        metrics["variations"] = list(VARIATIONS)
        return MdrpResult(
            instance=self._instance,
            solution=solution,
            metrics=metrics,
            violations=tuple(self._violations),
        )

    def _arm(self, now_ms: int) -> None:
        """Has the dispatcher woken when it wants to be, after whatever else is due then."""
        wake_ms = self._dispatcher.wake_at()
        if wake_ms is None:
            return
        at_ms = max(wake_ms, now_ms)
        if self._next_tick is None or at_ms < self._next_tick:
            self._next_tick = at_ms
            self._queue.schedule(at_ms, self._tick, ROUND)

    def _tick(self, now_ms: int) -> None:
        if self._next_tick == now_ms:
            self._next_tick = None
        self._dispatcher.tick(now_ms)
        while effects := self._dispatcher.outbox():
            for effect in effects:
                if isinstance(effect, Decide):
                    self._round(effect.snapshot)
                elif isinstance(effect, WritePlan):
                    self._write(effect, now_ms)
                else:
                    assert isinstance(effect, Ask)
                    self._couriers.ask(effect.order_id, effect.command)

    def _round(self, snapshot: Snapshot) -> None:
        started = self._stopwatch() if self._stopwatch else 0.0
        plan = decide(snapshot, self._policy)
        if self._stopwatch:
            self._round_s.append(self._stopwatch() - started)
        self._rounds += 1
        broken = check_plan(snapshot, plan, self._policy)
        if broken:
            self._refused_plans += 1
            self._violations += broken
            plan = _nothing(plan)
        self._dispatcher.receive(Decided(plan=plan))
        if self._progress:
            minute = (snapshot.at_ms - MIDNIGHT_MS) // MINUTE_MS
            self._progress(minute, self._couriers.placed, self._couriers.delivered)

    def _write(self, effect: WritePlan, now_ms: int) -> None:
        answers = [(order_id, self._couriers.ask(order_id, c)) for order_id, c in effect.offers]
        dropped = tuple((order_id, no.code) for order_id, no in answers if no is not None)
        self._dispatcher.receive(PlanWritten(at_ms=now_ms, dropped=dropped))


def _nothing(plan: Plan) -> Plan:
    """The plan that stands in for one that the referee refused."""
    return replace(plan, offers=(), waits=())
