"""The solver in a real process of its own: same plans, and a way on when it dies or is late."""

import asyncio
import os
import signal

from api.solver import SolverProcess
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


async def test_a_killed_or_late_solver_is_reported_and_replaced(snapshot):
    solver = SolverProcess()
    await solver.start()
    try:
        os.kill(solver.pid, signal.SIGKILL)
        assert await solver.decide(snapshot, Policy(), 20.0) is None
        os.kill(solver.pid, signal.SIGSTOP)
        assert await solver.decide(snapshot, Policy(), 0.5) is None
        assert solver.restarts == 2
        assert await solver.decide(snapshot, Policy(), 20.0) is not None
    finally:
        await solver.stop()


async def test_nothing_is_left_after_stop(snapshot):
    solver = SolverProcess()
    await solver.start()
    pid = solver.pid
    await solver.stop()
    await asyncio.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}")
