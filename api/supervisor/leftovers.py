"""Ends what an earlier PostgreSQL left running on the same files.

May import the error tree.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

from geo.errors import StartupError

# PostgreSQL itself kills what is left 5 s after an immediate stop.
STOP_AT_ONCE_S = 6.0
LEFTOVER_LIMIT_S = 30.0

_log = logging.getLogger("hexrun.supervisor")


async def clear_leftovers(data: Path) -> None:
    """End the processes of an earlier server on `data`: their supervisor is dead.

    They were told to stop when it died; this waits, then insists. A `postmaster.pid` that then
    still names a live process is stale, and is removed, since PostgreSQL takes any process with
    that number (usual after a container's restart) for a running server.

    Raises:
        StartupError: something still uses the files after 30 s.
    """
    loop = asyncio.get_running_loop()
    start = loop.time()
    told: set[int] = set()
    while left := _processes_in(data):
        waited = loop.time() - start
        if waited > LEFTOVER_LIMIT_S:
            raise StartupError(f"{data}: processes {sorted(left)} still use it; end them")
        number = signal.SIGKILL if waited > STOP_AT_ONCE_S else signal.SIGQUIT
        for pid in left if number is signal.SIGKILL else left - told:
            _log.warning("ending process %d, left by an earlier server on %s", pid, data)
            try:
                os.kill(pid, number)
            except (ProcessLookupError, PermissionError):
                continue
        told |= left
        await asyncio.sleep(0.05)
    recorded = _recorded_pid(data)
    if recorded is not None and Path(f"/proc/{recorded}").exists():
        (data / "postmaster.pid").unlink()


def _processes_in(data: Path) -> set[int]:
    """The PostgreSQL processes of `data`: each has it as its working folder.

    The one that `postmaster.pid` names is asked for its arguments too: in a container root may not
    see another user's working folder. Linux only; elsewhere PostgreSQL's own checks must do.
    """
    try:
        wanted = data.stat()
    except FileNotFoundError:
        return set()
    recorded = _recorded_pid(data)
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        try:
            if not (entry / "comm").read_text().startswith("postgres"):
                continue
            if pid == recorded and str(data).encode() in (entry / "cmdline").read_bytes():
                found.add(pid)
            here = (entry / "cwd").stat()
        except OSError:
            continue
        if (here.st_dev, here.st_ino) == (wanted.st_dev, wanted.st_ino):
            found.add(pid)
    return found


def _recorded_pid(data: Path) -> int | None:
    try:
        return int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
