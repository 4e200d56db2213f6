"""The solver in a real process of its own: same plans, and a way on when it dies or is late."""

import asyncio
import os
import signal
import sys
from dataclasses import replace

import pytest
import uvloop

from api.solver import SolverProcess, SolverRefused
from dispatch.engine import decide
from dispatch.policy import Policy


async def test_its_plan_is_the_one_decided_here(snapshot):
    solver = SolverProcess()
    await solver.start()
    try:
        plan = await solver.decide(snapshot, Policy(), 20.0)
        assert plan is not None
        assert plan.digest() == decide(snapshot, Policy()).digest()
        other = Policy(candidates=3, passes_max=1)
        plan = await solver.decide(snapshot, other, 20.0)
        assert plan.digest() == decide(snapshot, other).digest()
    finally:
        await solver.stop()


async def until(condition, limit_s=20.0):
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(0.05)


async def test_a_killed_or_late_solver_is_reported_at_once_and_replaced(snapshot):
    solver = SolverProcess()
    await solver.start()
    try:
        os.kill(solver.pid, signal.SIGKILL)
        assert await solver.decide(snapshot, Policy(), 20.0) is None
        async with asyncio.timeout(0.1):
            assert await solver.decide(snapshot, Policy(), 20.0) is None
        await until(lambda: solver.pid is not None)
        os.kill(solver.pid, signal.SIGSTOP)
        assert await solver.decide(snapshot, Policy(), 0.5) is None
        await until(lambda: solver.pid is not None)
        assert solver.restarts == 2
        assert await solver.decide(snapshot, Policy(), 20.0) is not None
    finally:
        await solver.stop()


def test_one_that_dies_between_two_rounds_is_replaced_on_the_roles_own_loop(snapshot):
    """uvloop closes the pipe itself as soon as the process is gone, and says so in its own way."""

    async def two_rounds():
        solver = SolverProcess()
        await solver.start()
        try:
            assert await solver.decide(snapshot, Policy(), 20.0) is not None
            first = solver.pid
            os.kill(first, signal.SIGKILL)
            await until(lambda: not os.path.exists(f"/proc/{first}"))
            await asyncio.sleep(0.1)
            assert await solver.decide(snapshot, Policy(), 20.0) is None
            await until(lambda: solver.pid not in (None, first))
            assert await solver.decide(snapshot, Policy(), 20.0) is not None
        finally:
            await solver.stop()

    uvloop.run(two_rounds())


async def test_a_solver_that_cannot_start_again_is_tried_until_it_can(snapshot, monkeypatch):
    solver = SolverProcess()
    await solver.start()
    try:
        executable = sys.executable
        monkeypatch.setattr(sys, "executable", "/nowhere/python")
        os.kill(solver.pid, signal.SIGKILL)
        assert await solver.decide(snapshot, Policy(), 20.0) is None
        await until(lambda: solver.restarts >= 2)
        assert await solver.decide(snapshot, Policy(), 20.0) is None
        monkeypatch.setattr(sys, "executable", executable)
        await until(lambda: solver.pid is not None)
        assert await solver.decide(snapshot, Policy(), 20.0) is not None
    finally:
        await solver.stop()


async def test_a_machine_too_busy_for_a_start_gets_its_solver_later(snapshot, monkeypatch):
    monkeypatch.setattr("api.solver.START_LIMIT_S", 0.01)
    solver = SolverProcess()
    await solver.start()
    try:
        assert solver.pid is None
        assert await solver.decide(snapshot, Policy(), 20.0) is None
        monkeypatch.setattr("api.solver.START_LIMIT_S", 60.0)
        await until(lambda: solver.pid is not None, 60.0)
        assert await solver.decide(snapshot, Policy(), 20.0) is not None
    finally:
        await solver.stop()


async def test_a_broken_snapshot_is_refused_by_name_and_the_solver_lives(snapshot):
    solver = SolverProcess()
    await solver.start()
    try:
        pid = solver.pid
        slow = replace(snapshot.riders, speed_mps=0 * snapshot.riders.speed_mps)
        with pytest.raises(SolverRefused, match=r"riders\[0\]"):
            await solver.decide(replace(snapshot, riders=slow), Policy(), 20.0)
        assert await solver.decide(snapshot, Policy(), 20.0) is not None
        assert solver.pid == pid
    finally:
        await solver.stop()


async def test_nothing_is_left_after_stop(snapshot):
    solver = SolverProcess()
    await solver.start()
    pid = solver.pid
    await solver.stop()
    await asyncio.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")
