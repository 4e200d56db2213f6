"""`hexrun sim ...`: runs, benchmark days and replays, with a progress bar and a table or JSON."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from api.clock import monotonic_s

SHOWN_DIFFERENT = 10


def kpi_table(title: str, kpis: Mapping[str, Any]) -> Table:
    """The figures as a table of names and values."""
    table = Table(title=title)
    table.add_column("KPI")
    table.add_column("value", justify="right")
    for name, value in kpis.items():
        table.add_row(name, _shown(value))
    return table


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def show(title: str, kpis: Mapping[str, Any], as_json: bool) -> None:
    """One JSON line, or the table."""
    if as_json:
        print(json.dumps(kpis))
    else:
        Console().print(kpi_table(title, kpis))


@contextmanager
def bar(what: str, total: int | None) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on stderr, with rate and time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress, progress.add_task(what, total=total)


def run_scenario(name: str, seed: int, as_json: bool) -> None:
    """Runs one scenario and prints its KPIs with the run's own figures."""
    from sim.run import Progress as Told
    from sim.run import simulate
    from sim.scenario import load_scenario

    scenario = load_scenario(name)
    with bar(f"{scenario.name}, seed {seed}", scenario.orders.count) as (progress, task):

        def told(now: Told) -> None:
            progress.update(task, completed=now.ended)

        outcome = simulate(scenario, seed, stopwatch=monotonic_s, progress=told)
    kpis: dict[str, Any] = {"scenario": scenario.name, "seed": seed, **outcome.kpis}
    kpis |= {
        "rounds": outcome.rounds,
        "events": outcome.events,
        "event_log_sha256": outcome.event_log_sha256,
        "orders_per_s": scenario.orders.count / outcome.total_s,
        "decide_s": outcome.decide_s,
        "referee_s": outcome.referee_s,
        "other_s": outcome.total_s - outcome.decide_s - outcome.referee_s,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    show(f"{scenario.name}, seed {seed}", kpis, as_json)


def run_mdrp(folder: Path, out: Path | None, as_json: bool) -> None:
    """Runs one benchmark day, prints its metrics and writes its solution files."""
    from sim.mdrp.run import run_day, write_solution

    with bar(folder.name, None) as (progress, task):
        result = run_day(
            folder,
            stopwatch=monotonic_s,
            progress=lambda minute, placed, delivered: progress.update(
                task, completed=delivered, total=placed
            ),
        )
    if out is not None:
        write_solution(result, out)
    show(folder.name, result.metrics, as_json)


def run_replay(folder: Path, as_json: bool) -> bool:
    """Replays a live journal; True when every round decided the same."""
    from api.replay import replay_folder

    with bar(f"replay {folder}", None) as (progress, task):
        result = replay_folder(folder, lambda rounds: progress.update(task, completed=rounds))
    figures = {
        "journals": result.files,
        "rounds": result.rounds,
        "rounds_equal": result.equal,
        "rounds_greedy": result.greedy,
        "refused_plans": result.refused,
        "events": result.events,
        "fixes": result.fixes,
        "all_equal": result.ok,
    }
    show(f"replay {folder}", figures, as_json)
    for at_ms, recorded, replayed in result.different[:SHOWN_DIFFERENT]:
        Console(stderr=True).print(f"round {at_ms}: recorded {recorded}, replayed {replayed}")
    return result.ok
