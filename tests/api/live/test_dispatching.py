"""The live driver on real servers: orders are offered, owners change, plans replay."""

import os
import signal
from dataclasses import replace

from api.journal import PlanMade, PlanWritten, journals, read_journal
from api.metrics import Mode, modes
from api.replay import replay_folder
from dispatch.commands import Cancel
from dispatch.model import AssignmentState, Party


def records(world, kind):
    return [r for p in journals(world.folder) for r in read_journal(p) if isinstance(r, kind)]


async def test_an_order_is_offered_to_the_nearer_rider_and_the_round_replays(world):
    await world.rider("far", lat=31.30)
    await world.rider("near")
    async with world.running() as member:
        driver = member.cities["demo"]
        await world.order("o1")
        attempt = await world.offered("o1")
        assert (attempt.rider_id, attempt.state) == ("near", AssignmentState.OFFERED)
        assert [s.order_id for s in attempt.route] == ["o1", "o1"]
        await world.accept("o1")
        await world.order("o2")
        assert await world.offered("o2")
        assert driver.refused == 0
    result = replay_folder(world.folder)
    assert result.ok
    assert result.rounds == driver.rounds >= 2
    assert (result.broken, result.gaps) == (0, 0)


async def test_a_dead_solver_is_replaced_by_greedy_and_the_journal_says_so(world):
    await world.rider("r1")
    async with world.running() as member:
        for pid in member.solvers.pids:
            os.kill(pid, signal.SIGKILL)
        await world.order("o1")
        assert await world.offered("o1")
        assert (Mode.SOLVER_AWAY, "") in modes()
        await world.until(lambda: (Mode.SOLVER_AWAY, "") not in modes())
        await world.accept("o1")
        await world.order("o2")
        assert await world.offered("o2")
    made = records(world, PlanMade)
    assert made[0].solver == "greedy"
    assert made[-1].solver == "matching"
    result = replay_folder(world.folder)
    assert result.ok
    assert result.greedy >= 1


async def test_a_late_solver_is_replaced_by_greedy(world, monkeypatch):
    monkeypatch.setattr("api.dispatching.effects.SOLVER_LIMIT_S", 0.5)
    await world.rider("r1")
    async with world.running() as member:
        for pid in member.solvers.pids:
            os.kill(pid, signal.SIGSTOP)
        await world.order("o1")
        assert await world.offered("o1")
        assert (Mode.SOLVER_LATE, "") in modes()
        await world.until(lambda: member.solvers.pids)
        monkeypatch.setattr("api.dispatching.effects.SOLVER_LIMIT_S", 20.0)
        await world.accept("o1")
        await world.order("o2")
        assert await world.offered("o2")
        assert (Mode.SOLVER_LATE, "") not in modes()
    assert records(world, PlanMade)[0].solver == "greedy"
    assert replay_folder(world.folder).ok


async def test_a_decision_and_a_write_that_never_come_end_the_round(world, monkeypatch):
    """Nobody is offered anything by them, and later rounds go on."""
    from sqlalchemy import text

    monkeypatch.setattr("api.dispatching.effects.SOLVER_LIMIT_S", 60.0)
    monkeypatch.setattr("api.dispatching.effects.ROUND_LIMIT_S", 0.5)
    monkeypatch.setattr("api.dispatching.effects.WRITE_LIMIT_S", 0.5)
    await world.rider("r1")
    async with world.running() as member:
        (pid,) = member.solvers.pids
        os.kill(pid, signal.SIGSTOP)
        await world.order("o1")
        await world.until(lambda: member.cities["demo"].rounds >= 2)
        assert await world.attempt("o1") is None
        async with world.store._engine.begin() as connection:
            await connection.execute(text("LOCK TABLE assignments IN EXCLUSIVE MODE"))
            monkeypatch.setattr("api.dispatching.effects.ROUND_LIMIT_S", 20.0)
            os.kill(pid, signal.SIGCONT)
            await world.until(lambda: written(world))
        assert await world.offered("o1")
    made = records(world, PlanMade)
    assert {m.solver for m in made} == {"none", "matching"}
    assert replay_folder(world.folder).ok


def written(world):
    return any(r.dropped == (("o1", "store_failed"),) for r in records(world, PlanWritten))


async def test_an_unanswered_offer_times_out_and_goes_to_another_rider(world):
    await world.rider("near")
    await world.rider("next", lat=31.232)
    async with world.running(policy=replace(world.quick, offer_ms=600)):
        await world.order("o1")
        first = await world.offered("o1")

        async def other():
            attempt = await world.attempt("o1")
            return attempt is not None and attempt.number > first.number and attempt

        second = await world.until(other)
        assert second.rider_id != first.rider_id


async def test_one_order_that_moved_does_not_void_the_plan(world, monkeypatch):
    """Cancelled after the round saw it: dropped by its code, and the others are offered."""
    for n in range(4):
        await world.rider(f"r{n}", lat=31.23 + n / 1000)
    write_plan = world.store.write_plan
    moved = []

    async def late(city, epoch, offers, receipts=()):
        """The store as it is; the order moves while the plan is on its way to it."""
        if not moved and any(order_id == "o1" for order_id, _ in offers) and len(offers) > 1:
            moved.append("o1")
            cancel = Cancel(at_ms=offers[0][1].at_ms, by=Party.CUSTOMER)
            await world.store.run("o1", cancel)
        return await write_plan(city, epoch, offers, receipts)

    monkeypatch.setattr(world.store, "write_plan", late)
    for n in range(3):
        await world.order(f"o{n}")
    async with world.running() as member:
        assert await world.offered("o0")
        assert await world.offered("o2")
        assert moved
        assert member.cities["demo"].refused == 0
    first = records(world, PlanWritten)[0]
    assert first.dropped == (("o1", "order_moved"),)
    assert replay_folder(world.folder).ok


async def test_a_rider_past_the_end_of_his_shift_is_offered_nothing(world):
    await world.rider("late", ends_in_ms=1_000)
    async with world.running() as member:
        await world.until(lambda: "demo" in member.cities)
        from api.clock import now_ms

        ends = now_ms() + 1_000
        await world.until(lambda: now_ms() > ends)
        await world.order("o1")
        await world.until(lambda: member.cities["demo"].rounds >= 2)
        assert await world.attempt("o1") is None
        await world.rider("fresh", lat=31.30)
        assert (await world.offered("o1")).rider_id == "fresh"
