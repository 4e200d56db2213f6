"""The product is broken on purpose, without its help: the checker must see each breakage.

Small runs on real servers: a dispatcher without its fence, a lost outbox row, a gateway that
acknowledges too early.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import asyncpg
import pytest
from msgspec.structs import replace
from redis.asyncio import Redis

from api.clock import now_ms
from api.sequencer import run_sequencer
from api.store import Store, migrate
from api.supervisor import leashed
from bench.chaos import markers
from bench.chaos.checker import gather, judge
from bench.chaos.checker.gather import read_journals
from bench.chaos.levers import Levers
from bench.chaos.logs import Log
from bench.chaos.phones import Phone
from bench.chaos.plant import free_ports
from bench.chaos.shim import compile_shim, shim_environment
from bench.chaos.world import City, World
from dispatch.commands import GoOffShift, GoOnShift
from dispatch.model import Place, Rider
from dispatch.registry import OrderForm, StopForm, job_type

BROKEN = Path(__file__).with_name("broken")
ROOT = Path(__file__).resolve().parents[2]
CITY, LAT, LON = "chaos", 31.2304, 121.4737
SECRET = "a secret of thirty-two characters"
LIMIT_S = 120
HERE = Place(lat=LAT, lon=LON)
THERE = Place(lat=LAT + 0.005, lon=LON)


@pytest.fixture(scope="module")
def servers():
    """PostgreSQL and Valkey in a process of their own."""
    folder = Path(tempfile.mkdtemp(prefix="hexrun-test-"))
    folder.chmod(0o755)
    own = ("HEXRUN_POSTGRES_URL", "HEXRUN_REDIS_URL")
    process = subprocess.Popen(
        leashed([sys.executable, "-m", "api.supervisor", str(folder)]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={k: v for k, v in os.environ.items() if k not in own},
        start_new_session=True,
    )
    yield json.loads(process.stdout.readline())
    process.terminate()
    process.communicate(timeout=30)
    shutil.rmtree(folder)


class Scene:
    """A fresh database with a store, a data folder, and roles as processes."""

    def __init__(self, data, postgres, redis, store):
        self.data, self.postgres, self.redis, self.store = data, postgres, redis, store
        (data / "told").mkdir()
        self.log = Log(data / "told" / "clients.jsonl")
        self.processes = []

    def start(self, role, *program, **env):
        """`role` as a process of `program`, by default the product's own."""
        line = [sys.executable, *(program or ("-m", "api.cli")), "role", role]
        own = {
            "PYTHONPATH": str(ROOT),
            "HEXRUN_POSTGRES_URL": self.postgres,
            "HEXRUN_REDIS_URL": self.redis,
            "HEXRUN_DATA": str(self.data),
            "HEXRUN_CITY": f"{CITY}:{LAT},{LON}",
            "HEXRUN_SECRET": SECRET,
        }
        with (self.data / f"{role}-{len(self.processes)}.log").open("wb") as output:
            process = subprocess.Popen(
                leashed([*line, "--data", str(self.data)]),
                env={**os.environ, **own, **{k: str(v) for k, v in env.items()}},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()

    def logs(self):
        return "\n".join(path.read_text() for path in self.data.glob("*.log"))

    async def rider(self, rider_id, tenant):
        await self.store.register_rider(Rider(id=rider_id, city=CITY, tenant=tenant))
        on = GoOnShift(at_ms=now_ms(), shift_end_ms=now_ms() + 3_600_000, place=HERE)
        await self.store.run_rider(rider_id, on)

    async def order(self, order_id, tenant):
        job, at_ms = job_type("delivery"), now_ms()
        form = OrderForm(
            customer_id=f"c-{order_id}", stops=(StopForm(place=HERE), StopForm(place=THERE))
        )
        order = job.order(order_id, CITY, form, job.quote(form, at_ms), at_ms)
        await self.store.create_order(replace(order, tenant=tenant), at_ms, idempotency=None)

    async def drained(self):
        """Whether every event that is not lost has its position."""
        connection = await asyncpg.connect(self.postgres.replace("+asyncpg", ""))
        try:
            return not await connection.fetchval("SELECT count(*) FROM outbox")
        finally:
            await connection.close()

    async def red(self):
        """The promises that the checker sees broken, and what it says of them."""
        evidence = await gather(self.postgres.replace("+asyncpg", ""), self.data)
        return {found.promise: found.what for found in judge(evidence).broken}


@pytest.fixture
async def scene(servers, tmp_path):
    name = f"test_{uuid.uuid4().hex}"
    admin = await asyncpg.connect(servers["postgres"].replace("+asyncpg", ""))
    await admin.execute(f"CREATE DATABASE {name}")
    postgres = servers["postgres"].replace("/hexrun?", f"/{name}?")
    assert name in postgres
    await migrate(postgres)
    store = await Store.open(postgres)
    made = Scene(tmp_path, postgres, f"{servers['redis']}?db={len(name) % 7 + 1}", store)
    yield made
    made.end()
    await store.close()
    await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await admin.close()


async def until(what, scene):
    """`what()` gives something true at last; that."""
    ends_s = time.monotonic() + LIMIT_S
    while time.monotonic() < ends_s:
        if found := await what():
            return found
        await asyncio.sleep(0.05)
    pytest.fail(f"waited in vain:\n{scene.logs()}")


async def test_a_dispatcher_without_its_fence_is_seen(scene):
    """The old owner, paused before it wrote its plan, writes it after the new owner's."""
    mark = scene.data / "paused"

    async def offered(order_id):
        return (await scene.store.order(order_id)).assignment

    async def paused():
        return mark.exists()

    async def owned():
        return list((scene.data / "journal").glob("*.journal"))

    async def both_told():
        runs = read_journals(scene.data / "journal").values()
        return all(run.first_position is not None for run in runs)

    sequencer = asyncio.Event()
    sequencing = asyncio.create_task(run_sequencer(scene.store, scene.redis, sequencer))
    await scene.rider("r1", "one")
    old = scene.start("dispatcher", str(BROKEN / "unfenced.py"), HEXRUN_TEST_MARK=mark)
    await until(owned, scene)
    scene.start("dispatcher")
    await scene.order("o1", "one")
    await until(paused, scene)
    # Nobody is left for the first order, so the new owner does not touch it.
    await scene.store.run_rider("r1", GoOffShift(at_ms=now_ms()))
    await scene.rider("r2", "two")
    await scene.order("o2", "two")
    await until(lambda: offered("o2"), scene)
    os.kill(old.pid, signal.SIGCONT)
    await until(lambda: offered("o1"), scene)
    await until(both_told, scene)
    scene.end()  # or timers of orders go on making events
    await until(scene.drained, scene)
    sequencer.set()
    await sequencing
    assert set(await scene.red()) == {"plans_stale"}


async def test_a_store_that_forgets_outbox_rows_is_seen(scene):
    """A dispatcher writes its offers, and now and then does not tell of them."""
    for number in range(4):
        await scene.rider(f"r{number}", "one")
        await scene.order(f"o{number}", "one")
    scene.start("dispatcher", str(BROKEN / "forgetful.py"))
    stop = asyncio.Event()
    sequencing = asyncio.create_task(run_sequencer(scene.store, scene.redis, stop))

    async def forgotten():
        found = await scene.red()
        return "has no position and does not wait" in found.get("events_lost", "")

    await until(forgotten, scene)
    scene.end()
    await until(scene.drained, scene)
    stop.set()
    await sequencing
    # What comes after an event without a position has a gap before it.
    assert set(await scene.red()) - {"feed_broken"} == {"events_lost"}


async def test_a_lost_outbox_row_is_seen(scene):
    for order_id in ("o1", "o2"):
        await scene.order(order_id, "one")
    connection = await asyncpg.connect(scene.postgres.replace("+asyncpg", ""))
    lost = "DELETE FROM outbox WHERE event_id = (SELECT max(event_id) FROM outbox)"
    assert await connection.execute(lost) == "DELETE 1"

    await connection.close()
    stop = asyncio.Event()
    sequencing = asyncio.create_task(run_sequencer(scene.store, scene.redis, stop))
    await until(scene.drained, scene)
    stop.set()
    await sequencing
    found = await scene.red()
    assert set(found) == {"events_lost"}
    assert "o2 2 opened has no position" in found["events_lost"]


async def test_fixes_acknowledged_too_early_are_seen(scene):
    """The disk is slow, the gateway does not wait for it, and is killed."""
    levers = Levers(scene.data)
    shim = shim_environment(compile_shim(scene.data), levers, "gateway")
    (port,) = free_ports(1)
    await scene.rider("r1", "one")
    gateway = scene.start("gateway", str(BROKEN / "hasty.py"), HEXRUN_STREAM_PORT=port, **shim)
    world = World(
        cities=[City(CITY, LAT, LON)],
        secret=SECRET,
        http=[],
        streams=[f"ws://127.0.0.1:{port}/v1/stream"],
        log=scene.log,
        seed=1,
    )
    acked = []

    class Watched(Phone):
        def settled(self, fix):
            acked.append(fix["seq"])

    phone = asyncio.create_task(Watched(world, "r1", 0, world.cities[0], tenant="one").run())

    async def more(than):
        return len(acked) > than

    await until(lambda: more(0), scene)
    levers.set_shim("gateway", fsync_ms=20_000)
    before = len(acked)
    await until(lambda: more(before + 5), scene)
    gateway.kill()
    gateway.wait()
    world.over.set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            await phone
    # Its riders' events have no sequencer here: only what this breakage breaks is looked at.
    found = await scene.red()
    assert set(found) - {"events_lost"} == {"fixes_lost"}


async def test_personal_data_in_the_clear_are_seen_wherever_they_lie(scene):
    connection = await asyncpg.connect(scene.postgres.replace("+asyncpg", ""))
    await connection.execute(f"INSERT INTO members VALUES ('{markers.NAME}', 1)")
    await connection.close()
    (scene.data / "logs").mkdir()
    (scene.data / "logs" / "http.log").write_text(f"asked for {markers.phone(7)}")
    redis = Redis.from_url(scene.redis)
    await redis.xadd("city:events", {"event": markers.address(3)})
    await redis.set("harmless", "nothing")
    evidence = await gather(scene.postgres.replace("+asyncpg", ""), scene.data, scene.redis)
    await redis.flushdb()
    await redis.aclose()
    where = {found.subject for found in judge(evidence).broken}
    assert where == {"public.members", "logs/http.log", "redis b'city:events'"}
