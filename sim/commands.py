"""What the command line calls to simulate; the edge of sim: it may ask the machine for its memory.

No clock is read here: the caller hands in a stopwatch.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable
from pathlib import Path

from dispatch import events as e
from sim.day import Day
from sim.report import RunResult
from sim.run import Progress, Stopwatch, simulate
from sim.scenario import Scenario, load_scenario


def run_scenario(
    scenario: Scenario | str | Path,
    seed: int,
    *,
    stopwatch: Stopwatch,
    progress: Callable[[Progress], None] | None = None,
    day: Day | None = None,
    on_event: Callable[[e.Event | e.RiderEvent], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> RunResult:
    """Runs a scenario, or one by name or path (raises what `load_scenario` raises).

    `stopwatch` gives seconds from any origin, such as `time.perf_counter`; `progress` is called
    once a simulated minute and at the end; `day`, `on_event` and `stop` are those of `simulate`.
    """
    if not isinstance(scenario, Scenario):
        scenario = load_scenario(scenario)
    out = simulate(
        scenario,
        seed,
        day=day,
        stopwatch=stopwatch,
        progress=progress,
        on_event=on_event,
        stop=stop,
    )
    created = out.kpis["orders_created"]
    assert created is not None
    return RunResult(
        scenario=scenario.name,
        seed=seed,
        kpis=out.kpis,
        orders_per_s=created / out.total_s if out.total_s > 0 else 0.0,
        decide_s=out.decide_s,
        referee_s=out.referee_s,
        other_s=out.total_s - out.decide_s - out.referee_s,
        rounds=out.rounds,
        events=out.events,
        event_log_sha256=out.event_log_sha256,
        peak_rss_mib=_peak_rss_mib(),
        violations=out.violations,
    )


def _peak_rss_mib() -> float:
    """The most memory that this process has held; Linux counts it in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
