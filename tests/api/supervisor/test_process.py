"""A child is leashed, logged, heard when ready, and surely ended with its group."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from api.supervisor import Child, announce_ready, leash, process
from geo.errors import StartupError

TIED = """
import os, sys, time
from api.supervisor import tie_to_parent
parent = os.getpid()
if os.fork() == 0:
    tie_to_parent(parent)
    print(os.getpid(), flush=True)
    time.sleep(600)
time.sleep(600)
"""


def shell(tmp_path: Path, text: str, **options: Any) -> Child:
    return Child("c", ["/bin/sh", "-c", text], log=tmp_path / "c.log", **options)


async def test_its_output_goes_to_its_log_only(tmp_path: Path) -> None:
    for word in ("first", "second"):
        child = shell(tmp_path, f"echo {word} out; echo {word} err >&2; exit 3")
        assert child.pid is None
        child.start()
        assert child.alive
        assert await child.wait() == child.returncode == 3
        assert not child.alive
        assert child.last_lines() == f"{word} out\n{word} err"
    assert (tmp_path / "c.log").read_text().count("first") == 2


async def test_a_spare_logs_to_the_file_of_its_turn(
    tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "LOG_BYTES_MAX", 5)
    log = tmp_path / "c.log"
    log.write_text("what the one before said\n")
    text = "from api.supervisor.process import wait_for_turn; wait_for_turn(); print('my turn')"
    line = [sys.executable, "-c", text]
    spare = Child("c", line, log=log, env=environment, spare=True)
    spare.start()
    assert log.read_text() == "what the one before said\n"
    spare.promote()
    assert await spare.wait() == 0
    assert log.read_text() == "my turn\n"
    assert spare.last_lines() == "my turn"
    assert (tmp_path / "c.log.1").read_text() == "what the one before said\n"


async def test_a_spare_ends_when_it_is_let_go(tmp_path: Path, environment: dict[str, str]) -> None:
    text = "from api.supervisor.process import wait_for_turn; wait_for_turn(); print('my turn')"
    line = [sys.executable, "-c", text]
    spare = Child("c", line, log=tmp_path / "c.log", env=environment, spare=True)
    spare.start()
    spare._let_go()
    assert await spare.wait() == 0
    assert spare.last_lines() == ""


async def test_a_large_log_is_moved_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LOG_BYTES_MAX", 4)
    for word in ("first", "second"):
        child = shell(tmp_path, f"echo {word}")
        child.start()
        await child.wait()
    assert (tmp_path / "c.log").read_text() == "second\n"
    assert (tmp_path / "c.log.1").read_text() == "first\n"


async def test_it_has_default_signals_and_a_session_of_its_own(tmp_path: Path) -> None:
    # Python ignores SIGPIPE; a shell that starts something in the background ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = shell(tmp_path, "grep SigIgn /proc/self/status; sleep 600")
        child.start()
    finally:
        signal.signal(signal.SIGINT, before)
    assert child.pid is not None
    async with asyncio.timeout(10):
        while not child.last_lines():
            await asyncio.sleep(0.02)
    ignored = int(child.last_lines().split()[1], 16)
    assert ignored & 0x7FFFFFFF == 0  # 1 to 31: the C library keeps 32 and 33, make ignores them
    assert os.getsid(child.pid) == child.pid
    await child.stop()


async def test_stop_goes_through_its_steps_then_kills_the_group(
    tmp_path: Path, all_gone: Callable[..., Any], descendants: Callable[[int], set[int]]
) -> None:
    child = shell(
        tmp_path,
        "trap 'echo int' INT; trap 'echo term' TERM; sleep 600 & while :; do sleep 0.05; done",
        stop_steps=((signal.SIGINT, 0.3), (signal.SIGTERM, 0.3)),
    )
    child.start()
    assert child.pid is not None
    while not descendants(child.pid):
        await asyncio.sleep(0.02)
    below = descendants(child.pid)
    loop = asyncio.get_running_loop()
    start = loop.time()
    assert await child.stop() == -signal.SIGKILL
    assert 0.6 <= loop.time() - start < 5
    assert child.last_lines() == "int\nterm"
    await all_gone(below, 2)


async def test_the_rest_of_its_group_goes_with_it(
    tmp_path: Path, all_gone: Callable[..., Any]
) -> None:
    child = shell(tmp_path, "sleep 600 & echo $!")
    child.start()
    assert await child.wait() == 0
    await all_gone({int(child.last_lines())}, 2)


@pytest.mark.parametrize("with_pidfd", [True, False])
async def test_its_end_is_seen_with_and_without_pidfd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_pidfd: bool
) -> None:
    if not with_pidfd:

        def refuse(pid: int) -> int:
            raise OSError

        monkeypatch.setattr(os, "pidfd_open", refuse)
    child = shell(tmp_path, "kill -HUP $$")
    child.start()
    assert await child.wait() == -signal.SIGHUP


async def test_it_is_heard_when_it_announces_itself(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    code = "import time; from api.supervisor import announce_ready as a; a(); a(); time.sleep(60)"
    line = [sys.executable, "-c", code]
    child = Child("c", line, log=tmp_path / "c.log", env=environment, announces=True)
    child.start()
    assert child.announced is not None
    async with asyncio.timeout(20):
        await child.announced
    await child.stop()


def test_announcing_without_a_supervisor_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(process.READY_VARIABLE, raising=False)
    announce_ready()
    with (tmp_path / "file").open("w") as file:
        monkeypatch.setenv(process.READY_VARIABLE, str(file.fileno()))
        announce_ready()
    assert (tmp_path / "file").read_text() == ""


async def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    child = Child("c", ["/no/such/program"], log=tmp_path / "c.log")
    child.start()
    assert await child.wait() == 1
    assert "/no/such/program: cannot start" in child.last_lines()
    with pytest.raises(StartupError, match="started once"):
        child.start()


def test_a_parent_that_died_before_the_leash_was_on() -> None:
    line = [sys.executable, "-I", "-S", leash.__file__, "9", "1", "-", "sleep", "600"]
    assert subprocess.run(line, check=False, timeout=20).returncode == -signal.SIGKILL


async def test_a_forked_worker_is_tied_to_its_parent(
    all_gone: Callable[..., Any], environment: dict[str, str]
) -> None:
    line = [sys.executable, "-c", TIED]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        await all_gone({worker}, 2)
