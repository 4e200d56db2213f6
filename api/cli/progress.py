"""A progress bar on stderr with rate and time left; nothing where nobody would see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

HOUR_MS = 3_600_000


class _Rate(ProgressColumn):
    """So many a second, lately."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not speed:
            return Text(f"- {unit}/s")
        return Text(f"{speed:,.0f} {unit}/s" if speed >= 10 else f"{speed:.1f} {unit}/s")


@contextmanager
def bar(what: str, total: int | None, unit: str = "orders") -> Iterator[tuple[Progress, TaskID]]:
    """Update it by `completed=`, by `at=` with words about how far it is, such as `simulated`."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TextColumn("{task.fields[at]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        yield progress, progress.add_task(what, total=total, unit=unit, at="")


def simulated(passed_ms: int) -> str:
    """How much virtual time has passed, in words."""
    return f"{passed_ms / HOUR_MS:.1f} h simulated"
