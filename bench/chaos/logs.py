"""What the clients and the faults did and were told: JSON lines, one file a process."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def now_ms() -> int:
    """The harness' clock, which no fault touches."""
    return time.time_ns() // 1_000_000


class Log:
    """Appends lines `{"log": kind, "ms": now, ...}`; each is with the system when `write` ends."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, kind: str, /, **fields: Any) -> None:
        self._file.write(json.dumps({"log": kind, "ms": now_ms(), **fields}) + "\n")

    def close(self) -> None:
        self._file.close()


def read_logs(folder: Path) -> Iterator[dict[str, Any]]:
    """All lines of all logs in the folder, file by file; a torn last line is left out."""
    for path in sorted(folder.glob("*.jsonl")):
        with path.open() as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)
