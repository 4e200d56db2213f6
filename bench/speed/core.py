"""What the engine does for each event and each round outside `decide`, on a simulated day.

The run's messages are recorded once and given to fresh dispatchers; nothing is decided again. Times
are medians of single calls, so that what the machine does meanwhile counts little. Beside
them stands the least that each could cost: folding the event alone, copying the snapshot's bytes.
"""

from __future__ import annotations

import gc
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from statistics import fmean, median
from typing import Any

import sim.run
import sim.world
from dispatch.commands import Command
from dispatch.dispatcher import Decide, Decided, Dispatcher, Fixes, Message
from dispatch.events import Event, RiderEvent, kind_of
from dispatch.model import Order
from dispatch.plan import Plan
from dispatch.referee import check_plan
from dispatch.snapshot import Snapshot
from dispatch.transitions import Refusal, apply, evolve
from sim.scenario import Scenario, load_scenario

REFEREE_ROUNDS = 300


class Recorded:
    """Of one run: what the dispatcher got (an int is a tick), and what was asked of orders."""

    def __init__(self) -> None:
        self.inputs: list[tuple[Message | int, Order | None]] = []
        self.asked: list[tuple[Order, Command]] = []


@contextmanager
def recording(into: Recorded) -> Iterator[None]:
    class Recorder(Dispatcher):
        def receive(self, message: Message) -> None:
            into.inputs.append((message, None))
            super().receive(message)

        def follow(self, event: Event, after: Order | None = None) -> None:
            into.inputs.append((event, after))
            super().follow(event, after)

        def tick(self, now_ms: int, look: Callable[[int], Fixes | None] | None = None) -> None:
            def seen(at_ms: int) -> Fixes | None:
                fixes = look(at_ms) if look is not None else None
                if fixes is not None:
                    into.inputs.append((fixes, None))
                return fixes

            super().tick(now_ms, seen)
            into.inputs.append((now_ms, None))

    def recorded_apply(order: Order, command: Command) -> object:
        into.asked.append((order, command))
        return apply(order, command)

    put: list[tuple[Any, str, object]] = [
        (sim.run, "Dispatcher", Recorder),
        (sim.world, "apply", recorded_apply),
    ]
    before = [getattr(module, name) for module, name, _ in put]
    for module, name, value in put:
        setattr(module, name, value)
    try:
        yield
    finally:
        for (module, name, _), value in zip(put, before, strict=True):
            setattr(module, name, value)


def timed_us(work: Callable[..., object], *args: object) -> float:
    began = time.perf_counter_ns()
    work(*args)
    return (time.perf_counter_ns() - began) / 1000


def replayed(scenario: Scenario, told: Recorded) -> dict[str, Any]:
    """Every time by what it was for, us; and some rounds' snapshots with their plans."""
    policy, travel = scenario.policy, scenario.travel.build()
    dispatcher = Dispatcher("bench", scenario.plane, travel, policy)
    us: dict[str, list[float]] = defaultdict(list)
    rounds: list[tuple[Snapshot, Plan]] = []
    snapshot: Snapshot | None = None
    for message, after in told.inputs:
        if isinstance(message, int):
            took = timed_us(dispatcher.tick, message)
            asked = [x.snapshot for x in dispatcher.outbox() if isinstance(x, Decide)]
            if asked:
                (snapshot,) = asked
                us["snapshot"].append(took)
            continue
        if isinstance(message, Decided) and snapshot and snapshot.at_ms == message.plan.at_ms:
            rounds = [*rounds[1 - REFEREE_ROUNDS :], (snapshot, message.plan)]
        if isinstance(message, Event):
            took = timed_us(dispatcher.follow, message, after)
        else:
            took = timed_us(dispatcher.receive, message)
        if isinstance(message, Event | RiderEvent):
            us[f"receive {kind_of(type(message.fact))}"].append(took)
        elif isinstance(message, Fixes):
            us["fixes"].append(took)
    return {"us": us, "rounds": rounds}


def folds(told: Recorded) -> Iterator[tuple[float, float]]:
    """(apply and evolve, evolve alone) of each command that changed something, us an event."""
    for order, command in told.asked:
        began = time.perf_counter_ns()
        events = apply(order, command)
        between = time.perf_counter_ns()
        if isinstance(events, Refusal):
            continue
        for event in events:
            order = evolve(order, event)
        ended = time.perf_counter_ns()
        yield (ended - began) / 1000 / len(events), (ended - between) / 1000 / len(events)


def copying_us(snapshot: Snapshot) -> float:
    """Of as many bytes as the snapshot has, in one piece."""
    tables = (snapshot.stops, snapshot.orders, snapshot.riders)
    columns = [getattr(t, f.name) for t in tables for f in fields(t) if f.name != "id"]
    block = bytearray(sum(column.nbytes for column in columns))
    return median(timed_us(bytes, block) for _ in range(50))


def run(name: str, seed: int, as_json: bool) -> None:
    scenario, told = load_scenario(name), Recorded()
    with recording(told):
        sim.run.simulate(scenario, seed, stopwatch=time.perf_counter)
    gc.collect()
    gc.freeze()
    found = replayed(scenario, told)
    us, rounds = found["us"], found["rounds"]
    kinds = {kind.partition(" ")[2]: v for kind, v in us.items() if kind.startswith("receive")}
    events = sum(map(len, kinds.values()))
    both, alone = (median(column) for column in zip(*folds(told), strict=True))
    with_offers = [(s, p) for s, p in rounds if p.offers]
    checks = [timed_us(check_plan, s, p, scenario.policy) for s, p in with_offers]
    offers = fmean(len(p.offers) for _, p in with_offers)
    snapshot_us = median(us["snapshot"])
    fixes_us = median(us["fixes"]) * len(us["fixes"]) / len(us["snapshot"])
    line = {
        "scenario": scenario.name,
        "events": events,
        "receive_us": round(sum(median(v) * len(v) for v in kinds.values()) / events, 2),
        "receive_us_by_event": {k: round(median(v), 2) for k, v in sorted(kinds.items())},
        "apply_evolve_us": round(both, 2),
        "evolve_us": round(alone, 2),
        "riders": len(rounds[-1][0].riders.id),
        "snapshot_us": round(snapshot_us, 1),
        "fixes_us_a_round": round(fixes_us, 1),
        "copying_us": round(copying_us(rounds[-1][0]), 1),
        "offers_a_plan": round(offers, 1),
        "referee_us_a_plan": round(median(checks), 1),
        "referee_us_an_offer": round(median(checks) / offers, 1),
    }
    print(json.dumps(line) if as_json else "\n".join(f"{k:22}{v}" for k, v in line.items()))
