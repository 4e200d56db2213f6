"""Several dispatcher processes share the cities, as members come, go, freeze and die."""

import asyncio
import signal
from contextlib import AsyncExitStack

import pytest
from sqlalchemy import text

from api.clock import monotonic_s
from api.dispatching import City, Dispatching, share
from api.journal import CityShape
from api.replay import replay_folder
from dispatch.commands import TimeOut
from geo.errors import StaleEpoch

CITIES = tuple(f"city{n}" for n in range(8))


def test_few_cities_move_when_members_change():
    many = [f"city{n}" for n in range(400)]
    before = {m: share(m, "abc", many) for m in "abc"}
    assert sorted(c for cities in before.values() for c in cities) == sorted(many)
    assert all(80 < len(cities) < 190 for cities in before.values())
    after = {m: share(m, "abcd", many) for m in "abcd"}
    assert all(after[m] <= before[m] for m in "abc"), "who joins takes to himself only"
    less = {m: share(m, "ab", many) for m in "ab"}
    assert all(less[m] >= before[m] for m in "ab"), "who leaves gives up his own only"


async def test_members_come_and_go_and_every_city_has_one_owner(world):
    """In one process, so that the members' names are known and their cities' shares too."""
    names = ("m1", "m2", "m3")
    async with AsyncExitStack() as all_of_them:
        enter = all_of_them.enter_async_context
        solvers = await enter(world.solvers())
        for name in names[:2]:
            await enter(world.running(name, cities=CITIES, solvers=solvers))

        async def as_shared(members):
            async def check():
                return await world.owners() == {
                    c: m for m in members for c in share(m, members, CITIES)
                }

            await world.until(check, 60)

        await as_shared(names[:2])
        async with world.running("m3", cities=CITIES, solvers=solvers):
            await as_shared(names)
        began_s = monotonic_s()
        await as_shared(names[:2])
        print(f"handed over in {monotonic_s() - began_s:.2f} s")
        for city in CITIES:
            await world.rider(f"rider-{city}", city=city)
            await world.order(f"order-{city}", city=city)
        for city in CITIES:
            assert (await world.offered(f"order-{city}")).rider_id == f"rider-{city}"
    assert await world.owners() == {}, "who leaves lets go of all"
    assert replay_folder(world.folder).ok


async def test_a_city_that_only_one_of_them_serves_is_his(world, monkeypatch):
    """Also where by the hash alone another one's would be due, who does not know it."""
    monkeypatch.setattr("api.dispatching.process.ORPHAN_S", 600.0)
    stays, added, *_ = sorted(share("old", ("old", "new"), CITIES))
    async with world.solvers() as solvers:
        old = world.running("old", cities=(stays,), solvers=solvers)
        async with old, world.running("new", cities=(stays, added), solvers=solvers):

            async def settled():
                return await world.owners() == {stays: "old", added: "new"}

            await world.until(settled)


async def test_a_city_with_which_its_own_process_fails_goes_to_another(world, monkeypatch):
    monkeypatch.setattr("api.dispatching.process.ORPHAN_S", 1.0)
    (failing,) = (m for m in ("m1", "m2") if "demo" in share(m, ("m1", "m2"), ["demo"]))
    other = "m2" if failing == "m1" else "m1"
    await world.rider("r1")
    async with world.solvers() as solvers:
        broken = world.running(failing, solvers=solvers, travel="by balloon")
        async with broken, world.running(other, solvers=solvers):

            async def fostered():
                return (await world.owners()).get("demo") == other

            await world.until(fostered)
            await world.order("o1")
            assert (await world.offered("o1")).rider_id == "r1"
            assert await fostered()


async def test_a_lease_that_cannot_be_given_back_ends_by_itself(world):
    """Nobody dispatches the city any more, so nobody may go on renewing its lease."""
    async with world.store._engine.begin() as connection:
        for statement in DISK_FULL:
            await connection.execute(text(statement))
    async with world.running(travel="by balloon"):

        async def taken_again():
            return (await epochs_of(world))["demo"] > 1

        await world.until(taken_again)


DISK_FULL = (
    "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$",
    "CREATE TRIGGER full_disk BEFORE UPDATE ON leases FOR EACH ROW"
    " WHEN (NEW.expires_at_ms = 0) EXECUTE FUNCTION full_disk()",
)


async def test_a_city_whose_task_has_never_run_is_let_go_and_taken_again(world):
    """Cancelled before its first step, it could not clear up after itself."""
    city = City(CityShape(name="demo", lat=31.23, lon=121.47), world.quick)
    await world.rider("r1")
    async with world.solvers() as solvers:
        member = Dispatching(
            world.store, world.redis, [city], world.folder / "journal", "a", solvers
        )
        await member._take("demo", is_mine=True)
        dead = member._held["demo"]
        dead.task.cancel()
        stop = asyncio.Event()
        running = asyncio.create_task(member.run(stop))
        await world.until(lambda: member._held.get("demo") not in (dead, None))
        assert (await epochs_of(world))["demo"] == 2
        await world.order("o1")
        assert (await world.offered("o1")).rider_id == "r1"
        stop.set()
        await running
    assert await world.owners() == {}


async def test_a_killed_and_a_frozen_process_lose_their_cities(world):
    """Real processes: one is killed, one stopped and woken after its cities have gone."""
    async with AsyncExitStack() as all_of_them:
        children = [
            await all_of_them.enter_async_context(world.process(cities=CITIES)) for _ in range(3)
        ]
        owners = await settled_by(world, children)
        for city in CITIES:
            await world.rider(f"rider-{city}", city=city)
        killed = busiest(owners, children)
        killed.kill()
        began_s = monotonic_s()
        left = [c for c in children if c is not killed]
        after = await settled_by(world, left)
        print(f"after SIGKILL: {monotonic_s() - began_s:.2f} s")
        kept = {c: o for c, o in owners.items() if pid_of(o) != killed.pid}
        assert kept.items() <= after.items(), "only the dead one's cities move"
        for city in CITIES:
            await world.order(f"a-{city}", city=city)
        for city in CITIES:
            assert await world.offered(f"a-{city}")

        frozen = busiest(after, left)
        frozen.send_signal(signal.SIGSTOP)
        (other,) = (c for c in left if c is not frozen)
        epochs = await epochs_of(world)
        alone = await settled_by(world, [other])
        assert {pid_of(o) for o in alone.values()} == {other.pid}
        for city in CITIES:
            await world.accept(f"a-{city}")
            await world.order(f"b-{city}", city=city)
        for city in CITIES:
            assert await world.offered(f"b-{city}")
        before = await attempts(world)
        frozen.send_signal(signal.SIGCONT)
        # It takes part again as the same member, under new epochs only.
        again = await settled_by(world, [frozen, other])
        assert frozen.returncode is None
        lost = [c for c, o in after.items() if pid_of(o) == frozen.pid]
        assert lost
        now = await epochs_of(world)
        assert all(now[c] >= epochs[c] + 2 for c in lost if pid_of(again[c]) == frozen.pid)
        assert await attempts(world) == before, "nothing was written twice"
        city, late = lost[0], TimeOut(at_ms=1 << 50, number=1)
        with pytest.raises(StaleEpoch):
            await world.store.run(f"b-{city}", late, epoch=(city, epochs[city]))


def pid_of(owner):
    return int(owner.split("-")[-2])


def busiest(owners, children):
    pids = [pid_of(o) for o in owners.values()]
    return max(children, key=lambda c: pids.count(c.pid))


async def settled_by(world, children):
    """The children are the members, and each has exactly its share of the cities."""
    pids = {c.pid for c in children}

    async def check():
        members, owners = await world.members(), await world.owners()
        due = {c: m for m in members for c in share(m, members, CITIES)}
        return owners if {pid_of(m) for m in members} == pids and owners == due else None

    return await world.until(check, 200)


async def epochs_of(world):
    async with world.store._engine.connect() as connection:
        rows = await connection.execute(text("SELECT city, epoch FROM leases"))
        return {row.city: row.epoch for row in rows}


async def attempts(world):
    return {c: (await world.store.order(f"b-{c}")).attempts for c in CITIES}
