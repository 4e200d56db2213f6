"""Drops closed segments and journals that are over their age; may import the clock.

Done by the process that holds the data folder, hence by one, which has started all who write there;
or, where nobody holds it, by a command that looks who has which file open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from pathlib import Path

import structlog

from api.clock import DAY_MS, now_ms
from api.supervisor.folder import DataFolder
from geo.errors import MissingFile

log = structlog.get_logger(__name__)

SWEEP_S = 3_600.0
_NAME = re.compile(r"(?P<writer>.+)-(?P<opened_ms>[0-9]+)\.(seg|journal)")


async def keep_files(folder: DataFolder, days: int) -> None:
    """Sweep every hour until cancelled. What cannot be removed is logged and left."""
    held_since_ms = now_ms()
    while True:
        before_ms = now_ms() - days * DAY_MS
        for files in (folder.segments, folder.journal):
            await asyncio.to_thread(sweep, files, before_ms, held_since_ms)
        await asyncio.sleep(SWEEP_S)


def sweep_once(data: Path, days: int) -> list[str]:
    """Remove what is over its age and not open, of writers of this user; gives the names.

    Raises MissingFile where open files cannot be seen: then any may be open.
    """
    now = now_ms()
    in_use = _open_files()
    gone = []
    for files in (data / "segments", data / "journal"):
        if files.is_dir():
            gone += sweep(files.resolve(), now - days * DAY_MS, now + DAY_MS, in_use)
    return gone


def _open_files() -> frozenset[str]:
    """What the processes of this user have open."""
    if not Path("/proc/self/fd").is_dir():
        raise MissingFile("/proc", "the open files of this machine")
    found = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # it is another user's, or has just been closed
            found.add(os.readlink(link))
    return frozenset(found)


def sweep(
    files: Path, before_ms: int, held_since_ms: int, in_use: frozenset[str] = frozenset()
) -> list[str]:
    """Remove the closed files of a folder last written before `before_ms`; gives their names.

    The last one of a writer may be open, however old: unless it was last written before this
    process held the folder (`held_since_ms`), since no writer outlives the one that started it.
    Paths `in_use` stay.
    """
    found = [(p, m) for p in files.iterdir() if (m := _NAME.fullmatch(p.name))]
    last: dict[str, int] = {}
    for _, match in found:
        opened_ms = int(match["opened_ms"])
        last[match["writer"]] = max(opened_ms, last.get(match["writer"], 0))
    gone = []
    for path, match in sorted(found):
        try:
            written_ms = path.stat().st_mtime_ns // 1_000_000
            maybe_open = int(match["opened_ms"]) == last[match["writer"]]
            if (
                str(path) in in_use
                or written_ms >= before_ms
                or (maybe_open and written_ms >= held_since_ms)
            ):
                continue
            path.unlink()
        except OSError as error:
            log.warning("file_kept", path=str(path), why=str(error))
        else:
            gone.append(path.name)
    if gone:
        log.info("files_dropped", folder=str(files), count=len(gone))
    return gone
