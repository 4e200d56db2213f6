"""`hexrun sim replay`: every round of live journals decided again, with its rate and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from api.cli.instants import instant, zone_of
from api.cli.output import show
from api.clock import monotonic_s
from api.journal import journals, started_ms
from api.replay import ReplayProgress, replay_folder

SHOWN_DIFFERENT = 10
MB = 1e6


def run_replay(
    folder: Path, since: str | None, until: str | None, zone_name: str, as_json: bool
) -> bool:
    """Replays the live journals of a folder; True when every round decided the same."""
    zone = zone_of(zone_name)
    begun_ms = started_ms(journals(folder)[0])
    from_ms = None if since is None else instant("from", since, zone, begun_ms)
    to_ms = None if until is None else instant("to", until, zone, from_ms or begun_ms)
    began_s = monotonic_s()
    with bytes_bar(f"replay {folder}") as (progress, task):

        def told(now: ReplayProgress) -> None:
            progress.update(task, completed=now.bytes_read, total=now.bytes_all, rounds=now.rounds)

        result = replay_folder(folder, told, from_ms=from_ms, to_ms=to_ms)
    took_s = max(monotonic_s() - began_s, 1e-9)
    found = {
        "journals": result.files,
        "journal_mb": result.bytes_read / MB,
        "rounds": result.rounds,
        "rounds_equal": result.equal,
        "rounds_greedy": result.greedy,
        "refused_plans": result.refused,
        "journals_broken": result.broken,
        "journals_after_a_gap": result.gaps,
        "journals_torn": len(result.torn),
        "events": result.events,
        "fixes": result.fixes,
        "all_equal": result.ok,
        "replay_s": took_s,
        "rounds_per_s": result.rounds / took_s,
        "journal_mb_per_s": result.bytes_read / MB / took_s,
    }
    show(f"replay {folder}", found, as_json)
    notes = Console(stderr=True, soft_wrap=True, highlight=False)
    for name, left in result.torn:
        notes.print(f"hexrun: {name} ends in the middle of a record: {left} bytes are left out")
    for at_ms, recorded, replayed in result.different[:SHOWN_DIFFERENT]:
        notes.print(f"hexrun: round {at_ms}: recorded {recorded}, replayed {replayed}")
    return result.ok


@contextmanager
def bytes_bar(what: str) -> Iterator[tuple[Progress, TaskID]]:
    """A progress bar on stderr by bytes of the journals, with rate and time left."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("{task.fields[rounds]} rounds"),
        TimeRemainingColumn(),
    )
    shown = console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=not shown) as progress:
        yield progress, progress.add_task(what, total=None, rounds=0)
