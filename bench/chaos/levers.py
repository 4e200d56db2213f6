"""The files by which faults are switched on and off: one small file a lever, in one folder.

Whoever obeys a lever looks at its file; whoever wonders what is switched on reads the folder.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

SHIM = struct.Struct("=qq")  # fsync delay and clock offset, both in ms


class Levers:
    """Named texts in a folder. A lever that was never set is at rest and gives its default."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def set(self, name: str, value: str) -> None:
        """Puts the lever into a position, whole or not at all."""
        draft = self.folder / f".{name}.{os.getpid()}"
        draft.write_text(value)
        draft.replace(self.folder / name)

    def get(self, name: str, default: str = "") -> str:
        try:
            return (self.folder / name).read_text()
        except FileNotFoundError:
            return default

    # --- the shim's levers: read by C, hence binary and changed in place -------------------------

    def shim(self, service: str) -> Path:
        """The lever of a service's shim; made at rest where it is missing."""
        path = self.folder / f"shim.{service}"
        if not path.exists():
            path.write_bytes(SHIM.pack(0, 0))
            path.chmod(0o644)  # PostgreSQL runs as another user
        return path

    def set_shim(
        self, service: str, *, fsync_ms: int | None = None, clock_ms: int | None = None
    ) -> None:
        """Slows the service's fsync by `fsync_ms`, sets its clock off by `clock_ms`."""
        path = self.shim(service)
        with path.open("r+b") as file:
            was_fsync_ms, was_clock_ms = SHIM.unpack(file.read(SHIM.size))
            fsync_ms = was_fsync_ms if fsync_ms is None else fsync_ms
            clock_ms = was_clock_ms if clock_ms is None else clock_ms
            file.seek(0)
            file.write(SHIM.pack(fsync_ms, clock_ms))
