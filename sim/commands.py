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
from sim.run import Outcome, Progress, Stopwatch, simulate
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
    return result_of(out, scenario.name, seed)


def result_of(out: Outcome, name: str, seed: int) -> RunResult:
    """What a run came to, with the figures of this process."""
    created = out.kpis["orders_created"]
    assert created is not None
    return RunResult(
        scenario=name,
        seed=seed,
        kpis=out.kpis,
        orders_per_s=created / out.total_s if out.total_s > 0 else 0.0,
        decide_s=out.decide_s,
        referee_s=out.referee_s,
        other_s=out.total_s - out.decide_s - out.referee_s,
        rounds=out.rounds,
        events=out.events,
        event_log_sha256=out.event_log_sha256,
        peak_rss_mib=peak_rss_mib(),
        violations=out.violations,
        faults=out.faults,
        interrupted=out.interrupted,
        end_ms=out.end_ms,
        tally=out.tally,
        round_ms=out.round_ms,
    )


def peak_rss_mib() -> float:
    """The most memory that this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # rusage would count what the parent held before a spawned process began
        lines = (line.split() for line in status.read_text().splitlines())
        return next(int(line[1]) for line in lines if line[0] == "VmHWM:") / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
