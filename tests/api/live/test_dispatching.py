"""The live driver on real servers: orders are offered, owners change, plans replay."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from redis.asyncio import Redis

from api.clock import now_ms
from api.dispatching import CityDispatcher, LeaseLost
from api.journal import CityShape, PlanMade, journals, read_journal
from api.replay import replay_folder
from api.sequencer import run_sequencer
from api.store import Store, migrate
from dispatch.commands import Accept, GoOnShift
from dispatch.model import AssignmentState, Place, Rider
from dispatch.policy import Policy
from dispatch.registry import OrderForm, StopForm, job_type

CITY = CityShape(name="demo", lat=31.23, lon=121.47)
QUICK = Policy(tick_ms=200)


@pytest.fixture
async def world(database_url, redis_url, tmp_path):
    await migrate(database_url)
    store = await Store.open(database_url)
    redis = Redis.from_url(redis_url)
    stop = asyncio.Event()
    sequencer = asyncio.create_task(run_sequencer(store, redis_url, stop))
    yield World(store, redis, tmp_path)
    stop.set()
    await sequencer
    await redis.aclose()
    await store.close()


class World:
    def __init__(self, store, redis, folder):
        self.store, self.redis, self.folder = store, redis, folder

    def dispatcher(self, owner, policy=QUICK):
        return CityDispatcher(self.store, self.redis, CITY, policy, self.folder / "journal", owner)

    @asynccontextmanager
    async def running(self, owner, policy=QUICK):
        driver = self.dispatcher(owner, policy)
        stop, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(driver.run(stop, ready))
        await until(lambda: ready.is_set() or task.done(), 20)
        try:
            yield driver, task
        finally:
            stop.set()
            if not task.done():
                await asyncio.wait_for(task, 20)

    async def rider(self, name, lat=31.23):
        await self.store.register_rider(Rider(id=name, city="demo"))
        place = Place(lat=lat, lon=121.47)
        on = GoOnShift(at_ms=now_ms(), shift_end_ms=now_ms() + 3_600_000, place=place)
        assert (await self.store.run_rider(name, on)).refusal is None

    async def order(self, name):
        at = now_ms()
        kind = job_type("delivery")
        here, there = Place(lat=31.231, lon=121.47), Place(lat=31.24, lon=121.47)
        form = OrderForm(customer_id="c", stops=(StopForm(place=here), StopForm(place=there)))
        made = kind.order(name, "demo", form, kind.quote(form, at), at)
        await self.store.create_order(made, at, idempotency=None)

    async def offered(self, name):
        async def check():
            order = await self.store.order(name)
            return order.assignment

        return await until(check, 10)


async def until(check, limit_s):
    for _ in range(int(limit_s / 0.05)):
        found = check()
        found = await found if asyncio.iscoroutine(found) else found
        if found:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"not within {limit_s} s")


async def test_an_order_is_offered_to_the_nearer_rider_and_the_round_replays(world):
    await world.rider("far", lat=31.30)
    await world.rider("near")
    async with world.running("a") as (driver, _):
        await world.order("o1")
        attempt = await world.offered("o1")
        assert (attempt.rider_id, attempt.state) == ("near", AssignmentState.OFFERED)
        assert [s.order_id for s in attempt.route] == ["o1", "o1"]
        accept = Accept(at_ms=now_ms(), rider_id="near", number=attempt.number)
        assert (await world.store.run("o1", accept)).refusal is None
        await world.order("o2")
        assert await world.offered("o2")
        assert driver.refused == 0
    result = replay_folder(world.folder)
    assert result.ok
    assert result.rounds == driver.rounds >= 2


async def test_a_dead_solver_is_replaced_by_greedy_and_the_journal_says_so(world):
    await world.rider("r1")
    async with world.running("a") as (driver, _):
        os.kill(driver.solver_pid, signal.SIGKILL)
        await world.order("o1")
        assert await world.offered("o1")
    made = [r for p in journals(world.folder) for r in read_journal(p) if isinstance(r, PlanMade)]
    assert made[0].solver == "greedy"
    result = replay_folder(world.folder)
    assert result.ok
    assert result.greedy == 1


async def test_an_unanswered_offer_times_out_and_goes_to_another_rider(world):
    await world.rider("near")
    await world.rider("next", lat=31.232)
    async with world.running("a", replace(QUICK, offer_ms=600)):
        await world.order("o1")
        first = await world.offered("o1")

        async def other():
            attempt = (await world.store.order("o1")).assignment
            return attempt is not None and attempt.number > first.number and attempt

        second = await until(other, 15)
        assert second.rider_id != first.rider_id


async def test_the_city_has_one_owner_and_changes_hands(world):
    await world.rider("r1")
    async with world.running("a"):
        waiting = world.dispatcher("b")
        stop, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(waiting.run(stop, ready))
        await asyncio.sleep(2)
        assert not ready.is_set()
    await asyncio.wait_for(ready.wait(), 10)
    await world.order("o1")
    assert await world.offered("o1")
    stop.set()
    await task
    assert len(journals(world.folder)) == 2
    assert replay_folder(world.folder).ok


async def test_who_lost_the_lease_stops_and_writes_nothing(world):
    await world.rider("r1")
    async with world.running("a") as (_, task):
        later = now_ms() + 3_600_000
        assert await world.store.take_lease("demo", "thief", later, 1_000) is not None
        await world.order("o1")
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(asyncio.shield(task), 15)
        order = await world.store.order("o1")
        assert order.assignment is None
