"""Time goes on steadily while the clocks around it are set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api.clock import SLEW, SteadyClock

HOUR_MS = 3_600_000.0
START_MS = 1_790_000_000_000.0
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
ROOT = Path(__file__).parents[2]


class Machine:
    """A wall clock that may be set and a monotonic one that may not."""

    def __init__(self) -> None:
        self.wall, self.up = START_MS, 5_000.0
        self.clock = SteadyClock(lambda: self.wall, lambda: self.up)

    def wait(self, ms: float, pace: float = 1.0) -> None:
        self.up += ms
        self.wall += ms * pace


@pytest.mark.parametrize("step", [HOUR_MS, -HOUR_MS])
def test_a_step_of_the_wall_clock_bends_the_time_a_little(step: float) -> None:
    machine = Machine()
    machine.wait(1_000)
    assert machine.clock.now_ms() == START_MS + 1_000
    machine.wall += step
    assert machine.clock.now_ms() == START_MS + 1_000
    machine.wait(20_000)
    passed = machine.clock.now_ms() - START_MS - 1_000
    assert abs(passed - 20_000) == pytest.approx(SLEW * 20_000)
    assert (passed > 20_000) == (step > 0)
    assert machine.clock.wall_ahead_ms() == pytest.approx(step, rel=0.01)


def test_it_follows_a_wall_clock_that_drifts() -> None:
    machine = Machine()
    for _ in range(1_000):
        machine.wait(1_000, pace=1.0005)
        machine.clock.now_ms()
    assert machine.clock.now_ms() == pytest.approx(machine.wall, abs=0.01)


def test_the_shared_clock_is_taken_over_once_and_then_bent_to() -> None:
    machine = Machine()
    machine.clock.share(START_MS - HOUR_MS, 5.0)
    assert machine.clock.now_ms() == START_MS - HOUR_MS
    machine.wall += 10 * HOUR_MS  # does not count any more
    machine.wait(10_000)
    assert machine.clock.now_ms() == START_MS - HOUR_MS + 10_000
    machine.clock.share(START_MS - HOUR_MS + 10_004, 5.0)
    assert machine.clock.behind_ms() == 0.0, "within what the question took"
    machine.clock.share(START_MS - HOUR_MS + 10_050, 5.0)
    assert machine.clock.behind_ms() == pytest.approx(50.0)
    machine.wait(10_000)
    assert machine.clock.now_ms() == pytest.approx(START_MS - HOUR_MS + 20_050)


def test_it_never_goes_back() -> None:
    machine = Machine()
    machine.wall -= HOUR_MS
    seen = []
    for _ in range(100):
        machine.wait(1.0)
        seen.append(machine.clock.now_ms())
    assert seen == sorted(seen)
    assert len(set(seen)) == 100


SCRIPT = """
import select, sys, time
from pathlib import Path
from api.auth import Tokens
from api.clock import clock_jumps_ms, now_ms
tokens = Tokens("s" * 32)
token = tokens.mint(sub="anna", role="customer", ttl_s=60)
before, wall = now_ms(), time.time()
Path(sys.argv[1]).write_text(sys.argv[2])
select.select([], [], [], 0.2)  # libfaketime breaks time.sleep
print(round(time.time() - wall), now_ms() - before, round(clock_jumps_ms()[0]))
tokens.verify(token)
"""


@pytest.mark.parametrize("step", ["+3600", "-3600"])
def test_a_real_process_whose_clock_is_set(tmp_path: Path, step: str) -> None:
    """The machine's clock as libfaketime shows it: an hour off from one moment to the next."""
    assert FAKETIME.is_file(), "install Debian's faketime, as `make test` does"
    stamp = tmp_path / "stamp"
    stamp.write_text("+0")
    out = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(stamp), step],
        env=os.environ | faked(stamp),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.split()
    wall_s, passed_ms, ahead_ms = map(int, out)
    assert abs(wall_s - int(step)) <= 1, "the clock was set"
    assert 190 <= passed_ms < 5_000
    assert abs(ahead_ms - 1000 * int(step)) < 1_000


def faked(stamp: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
        "PYTHONPATH": str(ROOT),
    }
