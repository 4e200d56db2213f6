"""A town of columns, and a live world: real servers, real dispatcher processes, orders by hand."""

import asyncio
import contextlib
import os
import signal
import sys
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import asyncpg
import numpy as np
import pytest
from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.engine import make_url

from api.clock import now_ms
from api.dispatching import City, Dispatching
from api.journal import CityShape
from api.sequencer import run_sequencer
from api.solver import SolverPool
from api.store import Store, migrate
from dispatch.commands import Accept, Confirm, GoOnShift
from dispatch.dispatcher import Decide, Dispatcher
from dispatch.model import Place, Rider
from dispatch.policy import Policy
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.transitions import apply, apply_rider
from geo.distance import Plane
from geo.travel import StraightLine

START_MS = 1_700_000_000_000
QUICK = Policy(tick_ms=200)
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
SECRET = "a secret of 32 characters or more"


@pytest.fixture
def town():
    """A dispatcher with 30 riders and 20 open orders, not yet decided."""
    rng = np.random.default_rng(7)
    plane = Plane(31.23, 121.47)
    dispatcher = Dispatcher("demo", plane, StraightLine(1.3), Policy())

    def place():
        lat, lon = plane.lat_lon(*rng.uniform(-2_000, 2_000, 2))
        return Place(lat=float(lat), lon=float(lon))

    for i in range(30):
        on = GoOnShift(at_ms=START_MS, shift_end_ms=START_MS + 3_600_000, place=place())
        for event in apply_rider(Rider(id=f"r{i}", city="demo"), on):
            dispatcher.receive(event)
    kind = job_type("delivery")
    for i in range(20):
        form = OrderForm(
            customer_id=f"c{i}", stops=(StopForm(place=place()), StopForm(place=place()))
        )
        order = kind.order(f"o{i}", "demo", form, kind.quote(form, START_MS), START_MS)
        for event in apply(order, Confirm(at_ms=START_MS)):
            dispatcher.receive(event)
    return dispatcher


@pytest.fixture
def snapshot(town):
    town.tick(START_MS + 1_000)
    (effect,) = town.outbox()
    assert isinstance(effect, Decide)
    return effect.snapshot


async def until(check, limit_s=30):
    """Polls until `check()` is true; gives what it gave."""
    async with asyncio.timeout(limit_s):
        while True:
            found = check()
            found = await found if asyncio.iscoroutine(found) else found
            if found:
                return found
            await asyncio.sleep(0.05)


class Wire:
    """A TCP port in front of a server's Unix socket, that a test may cut and mend."""

    def __init__(self, path):
        self._path, self._links, self._is_cut = path, set(), False
        self._flows = asyncio.Event()
        self._flows.set()

    async def open(self):
        self._server = await asyncio.start_server(self._link, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _link(self, reader, writer):
        if self._is_cut:
            writer.close()
            return
        far_reader, far_writer = await asyncio.open_unix_connection(self._path)
        self._links |= {writer, far_writer}
        pairs = ((reader, far_writer), (far_reader, writer))
        await asyncio.gather(*(self._copy(*pair) for pair in pairs))
        self._links -= {writer, far_writer}

    async def _copy(self, reader, writer):
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    def cut(self):
        self._is_cut = True
        for writer in self._links:
            writer.transport.abort()

    def hang(self):
        """Nothing is closed and nothing arrives."""
        self._flows.clear()

    def mend(self):
        self._is_cut = False
        self._flows.set()

    async def close(self):
        self.cut()
        self._flows.set()
        self._server.close()


@pytest.fixture
async def wires(world):
    """(PostgreSQL, Redis): the world's servers once more, behind wires."""
    postgres = make_url(world.database_url)
    redis = urlsplit(world.redis_url)
    made = Wire(f"{postgres.query['host']}/.s.PGSQL.5432"), Wire(unquote(redis.path))
    for wire in made:
        await wire.open()
    made[0].url = f"postgresql://hexrun@127.0.0.1:{made[0].port}/{postgres.database}"
    made[1].url = f"redis://127.0.0.1:{made[1].port}?{redis.query}"
    yield made
    for wire in made:
        await wire.close()


@pytest.fixture
async def world(database_url, redis_url, tmp_path):
    await migrate(database_url)
    made = World(database_url, redis_url, tmp_path)
    async with made.open():
        yield made


@pytest.fixture
async def spoil(world):
    """Runs SQL past every trigger and foreign key, as a bad repair by hand would."""
    connection = await asyncpg.connect(world.database_url.replace("+asyncpg", "", 1))
    await connection.execute("SET session_replication_role = replica")
    yield connection.execute
    await connection.close()


class World:
    """The servers, a sequencer, and what may be done by hand."""

    def __init__(self, database_url, redis_url, folder):
        self.database_url, self.redis_url, self.folder = database_url, redis_url, folder
        self.until = until
        self.quick = QUICK

    @asynccontextmanager
    async def open(self):
        self.store = await Store.open(self.database_url)
        self.redis = Redis.from_url(self.redis_url)
        stop = asyncio.Event()
        sequencer = asyncio.create_task(run_sequencer(self.store, self.redis_url, stop))
        try:
            yield self
        finally:
            stop.set()
            await sequencer
            await self.redis.aclose()
            await self.store.close()

    @asynccontextmanager
    async def solvers(self):
        """Solvers for several members: starting them takes seconds."""
        pool = SolverPool(1)
        await pool.start()
        try:
            yield pool
        finally:
            await pool.stop()

    @asynccontextmanager
    async def running(
        self,
        name="a",
        policy=QUICK,
        cities=("demo",),
        solvers=None,
        store=None,
        redis=None,
        travel="straight_line",
    ):
        """A member in this process, by default on the world's own connections."""
        known = [
            City(CityShape(name=c, lat=31.23, lon=121.47, travel=travel), policy) for c in cities
        ]
        member = Dispatching(
            store or self.store, redis or self.redis, known, self.folder / "journal", name, solvers
        )
        stop, ready = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(member.run(stop, ready))
        await until(lambda: ready.is_set() or task.done())
        try:
            yield member
        finally:
            stop.set()
            async with asyncio.timeout(20):
                await task

    @asynccontextmanager
    async def process(self, cities=("demo",), **environment):
        """`hexrun role dispatcher` in a process of its own; killed at the end if it still runs."""
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        (data / "dispatch.yaml").write_text("policy: {tick_ms: 200, offer_ms: 120000}")
        env = os.environ | {
            "HEXRUN_POSTGRES_URL": self.database_url,
            "HEXRUN_REDIS_URL": self.redis_url,
            "HEXRUN_DATA": str(data),
            "HEXRUN_SECRET": SECRET,
            "HEXRUN_CITY": ";".join(f"{c}:31.23,121.47" for c in cities),
            "PYTHONPATH": ROOT,
        }
        log = (self.folder / f"process-{now_ms()}.log").open("wb")
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "api.cli", "role", "dispatcher",
            env=env | environment, cwd=ROOT, stdout=log, stderr=log,
        )  # fmt: skip
        log.close()
        try:
            yield child
        finally:
            if child.returncode is None:
                child.send_signal(signal.SIGCONT)
                child.terminate()
                try:
                    async with asyncio.timeout(20):
                        await child.wait()
                except TimeoutError:
                    child.kill()
                    await child.wait()

    async def owners(self):
        """City -> owner, by the leases that are not over."""
        async with self.store._engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT city, owner FROM leases"
                    " WHERE expires_at_ms > extract(epoch FROM clock_timestamp()) * 1000"
                )
            )
            return {row.city: row.owner for row in rows}

    async def members(self):
        """The names of those who beat."""
        async with self.store._engine.connect() as connection:
            rows = await connection.execute(
                text(
                    "SELECT name FROM members"
                    " WHERE expires_at_ms > extract(epoch FROM clock_timestamp()) * 1000"
                )
            )
            return {row.name for row in rows}

    async def rider(self, name, lat=31.23, city="demo", ends_in_ms=3_600_000):
        await self.store.register_rider(Rider(id=name, city=city))
        place = Place(lat=lat, lon=121.47)
        on = GoOnShift(at_ms=now_ms(), shift_end_ms=now_ms() + ends_in_ms, place=place)
        assert (await self.store.run_rider(name, on)).refusal is None

    async def order(self, name, city="demo"):
        at = now_ms()
        kind = job_type("delivery")
        here, there = Place(lat=31.231, lon=121.47), Place(lat=31.24, lon=121.47)
        form = OrderForm(customer_id="c", stops=(StopForm(place=here), StopForm(place=there)))
        made = kind.order(name, city, form, kind.quote(form, at), at)
        await self.store.create_order(made, at, idempotency=None)

    async def attempt(self, name):
        return (await self.store.order(name)).assignment

    async def offered(self, name, limit_s=30):
        return await until(lambda: self.attempt(name), limit_s)

    async def accept(self, name):
        attempt = await self.attempt(name)
        command = Accept(at_ms=now_ms(), rider_id=attempt.rider_id, number=attempt.number)
        assert (await self.store.run(name, command)).refusal is None
