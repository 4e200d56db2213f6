"""One process of the live system each, as the supervisor or an operator's own unit starts it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from pydantic import ConfigDict, TypeAdapter, ValidationError
from redis.asyncio import Redis

from api.dispatching import CityDispatcher
from api.gateway import serve_gateway
from api.http import serve_http
from api.journal import CityShape
from api.sequencer import run_sequencer
from api.settings import Settings
from api.store import Store, migrate
from api.supervisor import announce_ready
from dispatch.policy import Policy
from geo.errors import UnknownName
from sim.scenario import first_wrong, read_yaml

log = structlog.get_logger(__name__)

DISPATCH_NAME = "dispatch.yaml"
REDIS_LIMIT_S = 2.0  # longer than the half second of a blocking read
Role = Callable[[Settings, asyncio.Event, asyncio.Event], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """The travel model of the city, see `geo.travel.travel_model`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: str = "straight_line"
    detour: float = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchFile:
    """`dispatch.yaml` of the data folder: how its city is dispatched."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    policy: Policy = field(default_factory=Policy)
    travel: Travel = field(default_factory=Travel)


def read_dispatch_file(data: Path) -> DispatchFile:
    """The file of the folder, or all defaults where there is none.

    Raises InvalidValue naming a key that nothing reads or a wrong value.
    """
    path = data / DISPATCH_NAME
    if not path.is_file():
        return DispatchFile()
    try:
        found = read_yaml(path.read_text(), str(path))
        return TypeAdapter(DispatchFile).validate_python({} if found is None else found)
    except ValidationError as error:
        wrong = first_wrong(error, DispatchFile)
        field = f"{path}: {wrong.field}" if wrong.field else str(path)
        raise type(wrong)(field, wrong.value, wrong.expected) from None


async def dispatcher(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Dispatches the city of the settings in the way of the data folder's `dispatch.yaml`."""
    how = read_dispatch_file(settings.data)
    city = settings.city
    store = await Store.open(settings.postgres_url)
    redis = Redis.from_url(
        settings.redis_url, socket_timeout=REDIS_LIMIT_S, socket_connect_timeout=REDIS_LIMIT_S
    )
    try:
        shape = CityShape(
            name=city.name,
            lat=city.lat,
            lon=city.lon,
            travel=how.travel.model,
            detour=how.travel.detour,
        )
        owner = CityDispatcher(store, redis, shape, how.policy, settings.data / "journal")
        await owner.run(stop, ready)
    finally:
        await redis.aclose()
        await store.close()


async def gateway(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    store = await Store.open(settings.postgres_url)
    try:
        await serve_gateway(
            settings, store, settings.redis_url, stop, ready=lambda port: ready.set()
        )
    finally:
        await store.close()


async def http(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    await serve_http(settings, stop, ready=lambda port: ready.set())


async def sequencer(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    store = await Store.open(settings.postgres_url)
    try:
        ready.set()
        await run_sequencer(store, settings.redis_url, stop, settings.keep)
    finally:
        await store.close()


async def migrate_once(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Brings the database's tables up to date and ends."""
    await migrate(settings.postgres_url)
    ready.set()


ROLES: dict[str, Role] = {
    "migrate": migrate_once,
    "dispatcher": dispatcher,
    "gateway": gateway,
    "http": http,
    "sequencer": sequencer,
}


def run_role(name: str) -> None:
    """Runs one role until SIGTERM or SIGINT; says so to the supervisor once it serves."""
    if name not in ROLES:
        raise UnknownName("role", name, "one of " + ", ".join(sorted([*ROLES, "bots"])))
    settings = Settings.from_environment()
    run_until_signal(lambda stop, ready: ROLES[name](settings, stop, ready))


def run_bots(scenario: str, seed: int) -> None:
    """Runs the bots of a scenario against the live system of the environment."""
    from api.cli.bots import Bots
    from sim.scenario import load_scenario

    settings = Settings.from_environment()
    town = load_scenario(scenario)

    async def work(stop: asyncio.Event, ready: asyncio.Event) -> None:
        await Bots(settings, town, seed).run(stop, ready)

    run_until_signal(work)


def run_until_signal(work: Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]) -> None:
    """Runs `work(stop, ready)` on uvloop; a signal sets `stop`, a set `ready` is announced."""
    import uvloop

    async def run() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

        async def announce() -> None:
            await ready.wait()
            announce_ready()

        announcing = asyncio.create_task(announce())
        try:
            await work(stop, ready)
        finally:
            if ready.is_set():
                await announcing
            announcing.cancel()

    uvloop.run(run())
