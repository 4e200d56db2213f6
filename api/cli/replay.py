"""`hexrun sim replay`: every round of live journals decided again, with its rate and time left."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn
from zoneinfo import ZoneInfo

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

from api.cli.instants import instant, shown, zone_of
from api.cli.output import show
from api.clock import monotonic_s
from api.journal import journals, started_ms
from api.replay import ReplayProgress, last_round_ms, replay_folder
from geo.errors import InvalidValue

SHOWN_DIFFERENT = 10
MB = 1e6


def run_replay(
    folder: Path, since: str | None, until: str | None, zone_name: str, as_json: bool
) -> bool:
    """Replays the live journals of a folder; True when every round decided the same.

    Raises InvalidValue for a span in which no round was held.
    """
    zone = zone_of(zone_name)
    from_ms, to_ms = _span(folder, since, until, zone)
    began_s = monotonic_s()
    with bytes_bar(f"replay {folder}") as (progress, task):

        def told(now: ReplayProgress) -> None:
            progress.update(task, completed=now.bytes_read, total=now.bytes_all, rounds=now.rounds)

        result = replay_folder(folder, told, from_ms=from_ms, to_ms=to_ms)
    if not result.rounds:
        _refuse_span(folder, since, until, zone)
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


def _span(
    folder: Path, since: str | None, until: str | None, zone: ZoneInfo
) -> tuple[int | None, int | None]:
    """From when to when, ms UTC; None without an end there."""
    begun_ms = started_ms(journals(folder)[0])
    from_ms = None if since is None else instant("from", since, zone, begun_ms)
    if until is None:
        return from_ms, None
    low_ms = begun_ms if from_ms is None else from_ms
    to_ms = instant("to", until, zone, low_ms)
    if to_ms <= low_ms:
        raise InvalidValue("to", until, f"later than {shown(low_ms, zone)}")
    if shown(to_ms, zone)[:10] > shown(low_ms, zone)[:10]:  # meant so, or the two are swapped
        last_ms = last_round_ms(folder)
        if last_ms is not None and to_ms > last_ms:
            span = f"later than {shown(low_ms, zone)} and up to {shown(last_ms, zone)}"
            raise InvalidValue("to", until, f"{span}, the last round")
    return from_ms, to_ms


def _refuse_span(folder: Path, since: str | None, until: str | None, zone: ZoneInfo) -> NoReturn:
    last_ms = last_round_ms(folder)
    if last_ms is None:
        raise InvalidValue("folder", str(folder), "journals in which a round was held")
    span = f"{shown(started_ms(journals(folder)[0]), zone)} to {shown(last_ms, zone)}"
    field, told = ("to", until) if since is None else ("from", since)
    raise InvalidValue(field, told, f"a span with rounds: they were held from {span} ({zone.key})")


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
