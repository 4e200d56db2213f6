"""`hexrun sim ...`: runs and benchmark days, with a progress bar and a table or JSON."""

from __future__ import annotations

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

from api.clock import monotonic_s
from sim.report import figures, table, to_json_line


def show(title: str, shown: Mapping[str, Any], as_json: bool) -> None:
    """One JSON line, or a table with the digests whole under it."""
    if as_json:
        print(to_json_line(shown))
        return
    digests = {name: value for name, value in shown.items() if name.endswith("_sha256")}
    Console().print(table(title, {n: v for n, v in shown.items() if n not in digests}))
    for name, value in digests.items():
        print(f"{name}  {value}")


@contextmanager
def bar(what: str, total: int | None) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on stderr, with rate and time left."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        yield progress, progress.add_task(what, total=total)


def run_scenario(name: str, seed: int, as_json: bool) -> None:
    """Runs one scenario and prints its KPIs with the run's own figures."""
    from sim.commands import run_scenario as run
    from sim.run import Progress as Told
    from sim.scenario import load_scenario

    scenario = load_scenario(name)
    title = f"{scenario.name}, seed {seed}"
    with bar(title, scenario.orders.count) as (progress, task):

        def told(now: Told) -> None:
            progress.update(task, completed=now.ended)

        result = run(scenario, seed, stopwatch=monotonic_s, progress=told)
    show(title, figures(result), as_json)


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
