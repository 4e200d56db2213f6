"""Seconds of processor time that each service has used, its child processes with it."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from bench.chaos.faults import children

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Cpu:
    """Looks from time to time: what a process uses between a look and its end is not seen."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, int], float] = {}
        self._last: dict[tuple[str, int], float] = {}

    def look(self, services: Iterable[tuple[str, int | None]], *, fresh: bool) -> None:
        """At (name, process number). `fresh`: what was used before the first look counts too."""
        for name, parent in services:
            for pid in _tree(parent):
                with contextlib.suppress(OSError):
                    used_s = _used_s(pid)
                    self._first.setdefault((name, pid), 0.0 if fresh else used_s)
                    self._last[name, pid] = used_s

    def used_s(self) -> dict[str, float]:
        """Since the first look, by role: twins are one."""
        found: defaultdict[str, float] = defaultdict(float)
        for key, used_s in self._last.items():
            found[key[0].rstrip("-0123456789")] += used_s - self._first[key]
        return {name: round(used_s, 2) for name, used_s in sorted(found.items())}


def _tree(pid: int | None) -> list[int]:
    if pid is None:
        return []
    with contextlib.suppress(OSError):
        return [pid, *(below for child in children(pid) for below in _tree(child))]
    return []


def _used_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S
