"""The data folder: its layout, its one owner, and socket paths short enough to bind.

May import the clock, `alive` and the error tree.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import select
import shlex
import shutil
import stat
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from api.alive import is_alive
from api.clock import now_ms
from geo.errors import FolderInUse, InvalidValue

LOCK_NAME = "hexrun.lock"
# A socket address holds 108 bytes on Linux and 104 on macOS, each with a closing zero.
SOCKET_PATH_BYTES_MAX = 103
SOCKET_NAME_BYTES_MAX = 32
SHORT_ROOT = Path("/tmp")
COMMAND_CHARS_MAX = 300
LOCK_READS_MAX = 25
LOCK_READ_EVERY_S = 0.02

_log = logging.getLogger("hexrun.supervisor")


class DataFolder:
    """A data folder, held by this process until `close`; made where it does not exist.

    `postgres` (database files), `valkey` (its working folder; nothing is kept), `segments`
    (positions), `journal` (rounds), `logs` (one file a process), `run` (status and sockets).
    `sockets` is `run`, or a short folder under /tmp when a path in `run` would be too long to
    bind or when another OS user, as which PostgreSQL runs under root, could not reach it.

    The lock is an flock on `hexrun.lock`, which the kernel drops with its owner; the JSON in the
    file ({pid, command, started_ms}) only says who it is.

    Raises:
        FolderInUse: another live process holds it.
        InvalidValue: `path` cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
            self.path = path.resolve()
            self._lock = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            expected = f"a folder that this user can write ({error.strerror})"
            raise InvalidValue("data folder", str(path), expected) from error
        try:
            self._take_lock()
            self.postgres = self._subfolder("postgres", 0o755)
            self.valkey = self._subfolder("valkey", 0o700)
            self.segments = self._subfolder("segments", 0o700)
            self.journal = self._subfolder("journal", 0o700)
            self.logs = self._subfolder("logs", 0o700)
            self.run = self._subfolder("run", 0o755)
            self.sockets = self.run if self._run_will_do() else _short_folder(self.path)
        except BaseException:
            os.close(self._lock)
            raise
        if self.sockets != self.run:
            _log.info("sockets are in %s: %s does not do", self.sockets, self.run)

    def socket(self, name: str) -> Path:
        """Where to bind the socket `name` (may contain a subfolder).

        Raises:
            InvalidValue: the name is longer than 32 bytes.
        """
        if len(os.fsencode(name)) > SOCKET_NAME_BYTES_MAX:
            expected = f"at most {SOCKET_NAME_BYTES_MAX} bytes"
            raise InvalidValue("socket name", name, expected)
        return self.sockets / name

    def close(self) -> None:
        """Give the folder up: drop the lock and the short socket folder. May be called twice."""
        if self._lock < 0:
            return
        if self.sockets != self.run:
            shutil.rmtree(self.sockets, ignore_errors=True)
        # Emptied, not removed: someone may have opened the file and wait for the lock on it.
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> DataFolder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _subfolder(self, name: str, mode: int) -> Path:
        path = self.path / name
        path.mkdir(mode=mode, exist_ok=True)
        return path

    def _take_lock(self) -> None:
        for attempt in range(LOCK_READS_MAX):
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                owner = self._owner()
                # An owner that took the lock a moment ago may not have written who it is.
                if owner is not None and is_alive(owner[0]):
                    raise FolderInUse(str(self.path), *owner) from None
                if attempt + 1 < LOCK_READS_MAX:
                    select.select((), (), (), LOCK_READ_EVERY_S)
                    continue
                raise FolderInUse(str(self.path), *(owner or (0, "unknown"))) from None
            break
        stale = self._owner()
        if stale is not None:
            _log.warning("taking %s over from process %d, which died", self.path, stale[0])
        about = {
            "pid": os.getpid(),
            "command": shlex.join(sys.orig_argv)[:COMMAND_CHARS_MAX],
            "started_ms": now_ms(),
        }
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, json.dumps(about).encode() + b"\n", 0)

    def _owner(self) -> tuple[int, str] | None:
        try:
            about = json.loads(os.pread(self._lock, 4096, 0))
            return int(about["pid"]), str(about["command"])
        except (ValueError, KeyError, TypeError):
            return None

    def _run_will_do(self) -> bool:
        if len(os.fsencode(self.run)) + 1 + SOCKET_NAME_BYTES_MAX > SOCKET_PATH_BYTES_MAX:
            return False
        return os.geteuid() != 0 or is_open_to_all(self.run)


def is_open_to_all(folder: Path) -> bool:
    """Whether every OS user may pass through `folder` and all folders above it."""
    return all(level.stat().st_mode & stat.S_IXOTH for level in (folder, *folder.parents))


def _short_folder(data: Path) -> Path:
    """A private folder for `data`'s sockets; one left by a process that was killed is used again.

    The name is derived, so it must be checked: in /tmp anybody may have made it first.
    """
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:12]
    path = SHORT_ROOT / f"hexrun-{digest}"
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
        if not ours or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            path = Path(tempfile.mkdtemp(prefix="hexrun-", dir=SHORT_ROOT))
    if os.geteuid() == 0:
        path.chmod(0o711)  # PostgreSQL's user passes through it to its own folder
    return path
