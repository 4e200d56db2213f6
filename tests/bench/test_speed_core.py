"""The bench of events: what it gives to fresh dispatchers is what the simulator told its own."""

import time

import sim.run
from bench.speed.core import Recorded, recording, replayed
from dispatch.dispatcher import Dispatcher, Fixes
from dispatch.events import Event
from sim.scenario import load_scenario


def test_a_fresh_dispatcher_holds_the_rounds_of_the_run():
    scenario, told = load_scenario("small"), Recorded()
    with recording(told):
        outcome = sim.run.simulate(scenario, 1, stopwatch=time.perf_counter)
    assert sim.run.Dispatcher is Dispatcher, "the simulator has its own again"
    kinds = [type(message) for message, _ in told.inputs]
    assert kinds.count(Event) > 6_000
    assert Fixes in kinds
    assert all(after is not None for message, after in told.inputs if isinstance(message, Event))
    found = replayed(scenario, told)
    assert len(found["us"]["snapshot"]) == outcome.rounds
    assert found["rounds"][-1][0].at_ms == found["rounds"][-1][1].at_ms
