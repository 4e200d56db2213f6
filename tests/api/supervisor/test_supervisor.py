"""The supervisor starts in order, restarts what dies, stops in reverse and leaves nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from api.supervisor import DataFolder, Service, Supervisor, runner
from api.supervisor.service import Restart
from geo.errors import StartupError

ROLE = """
import signal, sys, time
from api.supervisor import announce_ready
def note(word):
    with open(sys.argv[1], "a") as file:
        file.write(word + "\\n")
def end(*_):
    time.sleep(0.3 if sys.argv[2] == "late" else 0)
    note(sys.argv[2] + " stopped")
    sys.exit()
signal.signal(signal.SIGTERM, end)
note(sys.argv[2] + " started")
time.sleep(0.2)
note(sys.argv[2] + " ready")
announce_ready()
time.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    with DataFolder(tmp_path / "data") as held:
        yield held


@asynccontextmanager
async def running(folder: DataFolder, *services: Service) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(folder, list(services), handle_signals=False)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.stop()


async def until(what: Callable[[], bool], limit_s: float = 20) -> None:
    async with asyncio.timeout(limit_s):
        while not what():
            await asyncio.sleep(0.02)


def shell(name: str, text: str, **options: Any) -> Service:
    return Service(name, argv=("/bin/sh", "-c", text), **options)


async def test_starts_in_order_and_stops_in_reverse(
    folder: DataFolder, tmp_path: Path, environment: dict[str, str]
) -> None:
    notes = tmp_path / "notes"

    def role(name: str, *after: str) -> Service:
        argv = (sys.executable, "-c", ROLE, str(notes), name)
        return Service(name, argv=argv, after=after, announces=True, env=environment)

    async with running(folder, role("late", "early"), role("early")) as supervisor:
        assert [one.state for one in supervisor.status()] == ["ready", "ready"]
        told = json.loads(supervisor.status_file.read_text())
        assert told["pid"] == os.getpid()
        assert [(one["name"], one["state"]) for one in told["services"]] == [
            ("early", "ready"),
            ("late", "ready"),
        ]
        assert told["services"][0]["pid"] == supervisor.status()[0].pid
    assert notes.read_text().splitlines() == [
        *("early started", "early ready", "late started", "late ready"),
        *("late stopped", "early stopped"),
    ]
    await supervisor.wait_stopped()
    told = json.loads(supervisor.status_file.read_text())
    assert [(one["state"], one["pid"]) for one in told["services"]] == [("stopped", None)] * 2


async def test_what_dies_is_restarted_with_back_off(folder: DataFolder, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    service = shell("dies", f"date +%s%N >> {starts}; exit 3")
    async with running(folder, service) as supervisor:
        await until(lambda: starts.exists() and len(starts.read_text().split()) >= 4)
        assert supervisor.status()[0].restarts >= 3
    times = [int(word) for word in starts.read_text().split()]
    gaps_s = [(later - earlier) / 1e9 for earlier, later in pairwise(times)]
    assert all(gap > wait for gap, wait in zip(gaps_s, (0.0, 0.2, 0.4), strict=False))


@pytest.mark.parametrize(
    ("policy", "code", "state"),
    [("never", 3, "failed"), ("never", 0, "ended"), ("on-failure", 0, "ended")],
)
async def test_what_need_not_run_is_not_restarted(
    folder: DataFolder, policy: Restart, code: int, state: str
) -> None:
    service = shell("once", f"exit {code}", restart=policy)
    async with running(folder, service) as supervisor:
        await until(lambda: supervisor.status()[0].state == state)
    assert supervisor.status()[0].state == state
    assert supervisor.status()[0].restarts == 0


async def test_what_is_not_healthy_is_restarted(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "HEALTH_EVERY_S", 0.05)
    asked = 0

    async def healthy() -> bool:
        nonlocal asked
        asked += 1
        if asked <= 3:
            raise OSError("gone")
        return True

    async with running(folder, shell("ill", "exec sleep 600", healthy=healthy)) as supervisor:
        first = supervisor.status()[0].pid
        await until(lambda: asked > 4 and supervisor.status()[0].state == "ready")
        assert supervisor.status()[0].restarts == 1
        assert supervisor.status()[0].pid != first


SPARE = """
import os, signal, sys, time
from api.supervisor.process import announce_ready, is_spare, wait_for_turn
if is_spare():
    print("a spare waits", flush=True)
    wait_for_turn()
print("serves", os.getpid(), flush=True)
announce_ready()
time.sleep(600)
"""


async def test_a_spare_takes_the_place_of_what_dies(
    folder: DataFolder,
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    all_gone: Callable[..., Awaitable[None]],
) -> None:
    monkeypatch.setattr(runner, "SPARE_AFTER_S", 0.1)
    argv = (sys.executable, "-c", SPARE)
    door = Service("door", argv, announces=True, spare=True, env=environment)
    pids = set()
    async with running(folder, door) as supervisor:

        def told() -> dict[str, Any]:
            found: dict[str, Any] = json.loads(supervisor.status_file.read_text())["services"][0]
            pids.update({found["pid"], found["spare_pid"]} - {None})
            return found

        for restarts in range(3):
            await until(lambda: told()["spare_pid"] is not None)
            before = told()
            assert (before["state"], before["restarts"]) == ("ready", restarts)
            os.kill(before["pid"], signal.SIGKILL)
            await until(
                lambda n=restarts: (told()["state"], told()["restarts"]) == ("ready", n + 1)
            )
            assert told()["pid"] == before["spare_pid"]
        await until(lambda: told()["spare_pid"] is not None)
        serving, waiting = told()["pid"], told()["spare_pid"]
        os.kill(waiting, signal.SIGKILL)  # one that dies is replaced, and nobody else disturbed
        await until(lambda: told()["spare_pid"] not in (None, waiting))
        assert (told()["pid"], told()["restarts"]) == (serving, 3)
    await all_gone(pids, 5)
    said = (folder.logs / "door.log").read_text().splitlines()
    assert [line for line in said if line.startswith("serves")][-1] == f"serves {serving}"
    assert len(pids) == 6


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(
    folder: DataFolder, all_gone: Callable[..., Awaitable[None]], descendants: Callable[..., Any]
) -> None:
    deaf = shell("deaf", "trap '' TERM; sleep 600 & while :; do sleep 0.05; done", grace_s=0.5)
    loop = asyncio.get_running_loop()
    async with running(folder, deaf) as supervisor:
        await until(lambda: len(descendants(supervisor.status()[0].pid)) >= 2)
        pids = {supervisor.status()[0].pid, *descendants(supervisor.status()[0].pid)}
        start = loop.time()
    assert 0.5 <= loop.time() - start < 5
    await all_gone(pids, 2)


async def test_one_that_does_not_come_up_stops_all_and_shows_its_log(folder: DataFolder) -> None:
    good = shell("good", "exec sleep 600")

    async def never() -> bool:
        return False

    bad = shell("bad", "echo I lack a spoon; exit 7", ready=never, after=("good",))
    supervisor = Supervisor(folder, [good, bad], handle_signals=False)
    with pytest.raises(StartupError, match=r"bad ended with 7 [^\n]*bad.log:\nI lack a spoon"):
        await supervisor.start()
    assert [one.state for one in supervisor.status()] == ["stopped", "failed"]
    assert all(one.pid is None for one in supervisor.status())

    slow = shell("slow", "echo I think; exec sleep 600", ready=never, ready_limit_s=0.5)
    with pytest.raises(StartupError, match=r"slow was not ready in 0.5 s .*\nI think"):
        await Supervisor(folder, [slow], handle_signals=False).start()

    mute = shell("mute", "exec sleep 600", announces=True, ready_limit_s=0.2)
    with pytest.raises(StartupError, match="has not announced itself"):
        await Supervisor(folder, [mute], handle_signals=False).start()

    with pytest.raises(StartupError, match="no program /no/such"):
        await Supervisor(folder, [Service("x", ("/no/such",))], handle_signals=False).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_cleanly(
    tmp_path: Path,
    environment: dict[str, str],
    number: signal.Signals,
    all_gone: Callable[..., Awaitable[None]],
    descendants: Callable[[int], set[int]],
) -> None:
    text = """
import asyncio, sys
from itertools import pairwise
from pathlib import Path
from api.supervisor import DataFolder, Service, Supervisor
async def main():
    with DataFolder(Path(sys.argv[1])) as folder:
        supervisor = Supervisor(folder, [Service("sleeper", ("sleep", "600"))])
        await supervisor.start()
        print("up", flush=True)
        await supervisor.wait_stopped()
        print(supervisor.status()[0].state, flush=True)
asyncio.run(main())
"""
    line = [sys.executable, "-c", text, str(tmp_path / "data")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        below = descendants(process.pid)
        assert below
        process.send_signal(number)
        assert process.stdout.readline() == b"stopped\n"
        assert process.wait(10) == 0
    await all_gone(below, 1)


async def test_it_can_be_stopped_while_it_starts(folder: DataFolder) -> None:
    async def never() -> bool:
        return False

    supervisor = Supervisor(
        folder, [shell("slow", "exec sleep 600", ready=never)], handle_signals=False
    )
    starting = asyncio.create_task(supervisor.start())
    await until(lambda: bool(supervisor.status()) and supervisor.status()[0].pid is not None)
    await supervisor.stop()
    with pytest.raises(StartupError, match="stopped before it was ready"):
        await starting
    assert supervisor.status()[0].state == "stopped"
