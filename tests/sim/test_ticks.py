"""What a run comes to does not depend on how often the dispatcher ticks or hears of fixes."""

import dataclasses
import hashlib
import time

import numpy as np
import pytest

from sim.faults import ClockKnobs, PhoneKnobs, RestartKnobs
from sim.run import _FAULTS, _Run
from sim.scenario import BreakKnobs, load_scenario

SMALL = load_scenario("small")
BRIEF = dataclasses.replace(
    SMALL,
    duration_s=1_800,
    orders=dataclasses.replace(SMALL.orders, count=150, peaks=()),
    riders=dataclasses.replace(
        SMALL.riders, count=35, accept_share=0.8, ignore_share=0.1, fix_s=60.0
    ),
)
LOCKED = dataclasses.replace(BRIEF, policy=dataclasses.replace(SMALL.policy, diversion=False))
SLOW = dataclasses.replace(
    BRIEF,
    decide_ms=3_000,
    policy=dataclasses.replace(SMALL.policy, tick_ms=20_000, stale_after_ms=60_000),
    travel=dataclasses.replace(SMALL.travel, model="manhattan"),
)
RESTS = dataclasses.replace(
    BRIEF,
    riders=dataclasses.replace(BRIEF.riders, breaks=BreakKnobs(every_h=0.2, minutes=1.0)),
    policy=dataclasses.replace(SMALL.policy, stale_after_ms=90_000),
)
DARK = dataclasses.replace(
    LOCKED,
    faults=dataclasses.replace(
        SMALL.faults,
        phones=PhoneKnobs(per_h=300, for_s=200),
        clocks=ClockKnobs(share=0.5, off_s=90),
        restarts=RestartKnobs(per_h=6, for_s=20),
    ),
)


class Restless(_Run):
    """Ticks at other moments too, and tells everybody's place each time; `seen` is the digest of
    what rounds saw of riders."""

    def __init__(self, scenario, seed, extra):
        super().__init__(scenario, seed, None, time.perf_counter, None, None, None, None)
        self.seen = hashlib.sha256()
        at_ms = np.random.default_rng(seed).integers(0, scenario.duration_s * 1000, extra)
        for ms in (scenario.start_ms + at_ms).tolist():
            self._queue.schedule(ms, self.tick_and_look, _FAULTS)

    def _decide(self, effect):
        riders = effect.snapshot.riders
        for column in (riders.x, riders.y, riders.free_ms, riders.stale):
            self.seen.update(column[riders.on_shift].tobytes())
        return super()._decide(effect)

    def tick_and_look(self, now_ms):
        fixes = self._world.fixes(now_ms)
        if fixes is not None:
            self._dispatcher.receive(fixes)
        self._tick(now_ms)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", ["BRIEF", "LOCKED", "SLOW", "RESTS", "DARK"])
def test_more_ticks_and_more_fixes_change_nothing(name, seed):
    scenario = globals()[name]
    once, often = Restless(scenario, seed, 0), Restless(scenario, seed, 4_000)
    assert often.to_the_end().event_log_sha256 == once.to_the_end().event_log_sha256
    assert often.seen.digest() == once.seen.digest()
