"""The preloaded shim in a real process: fsync waits, the wall clock is off, durations are true."""

import json
import os
import subprocess
import sys

import pytest

from bench.chaos.levers import Levers
from bench.chaos.shim import compile_shim, shim_environment

PROGRAM = """
import json, os, sys, time
for _ in sys.stdin:
    with open(sys.argv[1], "w") as file:
        began = time.monotonic()
        os.fsync(file.fileno())
        waited = time.monotonic() - began
    print(json.dumps([time.time(), waited]), flush=True)
"""


@pytest.fixture
def shimmed(tmp_path):
    """`ask()` gives the wall clock of a shimmed process and how long its fsync took, in s."""
    levers = Levers(tmp_path)
    environment = shim_environment(compile_shim(tmp_path), levers, "it")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "file")],
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def ask():
        process.stdin.write("\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    yield levers, ask
    process.stdin.close()
    process.wait(10)
    process.stdout.close()


def test_at_rest_nothing_is_changed(shimmed, clock):
    _, ask = shimmed
    before = clock()
    at, _ = ask()
    assert before <= at <= clock()


def test_the_clock_steps_and_steps_back(shimmed, clock):
    levers, ask = shimmed
    for step_ms in (30_500, -30_500, 0):
        levers.set_shim("it", clock_ms=step_ms)
        before = clock()
        at, _ = ask()
        assert before <= at - step_ms / 1000 <= clock() + 0.001


def test_fsync_waits_as_long_as_it_is_told(shimmed):
    levers, ask = shimmed
    levers.set_shim("it", fsync_ms=300, clock_ms=5_000)
    assert ask()[1] >= 0.3
    levers.set_shim("it", fsync_ms=0)
    assert ask()[1] < 0.3


@pytest.fixture
def clock():
    import time

    return time.time
