"""Helpers to look at processes, and a folder that every OS user can pass."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api.supervisor.embedded import POSTGRES_VARIABLE, REDIS_VARIABLE


@pytest.fixture(autouse=True)
def _no_named_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POSTGRES_VARIABLE, raising=False)
    monkeypatch.delenv(REDIS_VARIABLE, raising=False)


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A temporary folder that every OS user may pass, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="hexrun-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def descendants() -> Callable[[int], set[int]]:
    """All processes below one."""

    def below(pid: int) -> set[int]:
        parents = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                parents[int(entry.name)] = int(fields[1])
            except OSError:
                continue
        found: set[int] = set()
        level = {pid}
        while level:
            level = {child for child, parent in parents.items() if parent in level} - found
            found |= level
        return found

    return below


def is_running(pid: int) -> bool:
    """Whether the process exists and is more than a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def all_gone() -> Callable[[set[int], float], object]:
    """Waits until none of the processes is running; fails after that many seconds."""

    async def wait(pids: set[int], limit_s: float) -> None:
        try:
            async with asyncio.timeout(limit_s):
                while any(is_running(pid) for pid in pids):
                    await asyncio.sleep(0.02)
        except TimeoutError:
            left = {p: Path(f"/proc/{p}/cmdline").read_bytes()[:80] for p in pids if is_running(p)}
            pytest.fail(f"still running after {limit_s} s: {left}")

    return wait


@pytest.fixture
def environment() -> dict[str, str]:
    """The environment for a script that imports hexrun from this checkout."""
    root = str(Path(__file__).parents[3])
    return {**os.environ, "PYTHONPATH": root}
