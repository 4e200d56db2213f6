"""One process of the live system each, as the supervisor or an operator's own unit starts it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog
from pydantic import ConfigDict, TypeAdapter, ValidationError
from redis.asyncio import Redis

from api.data_keys import KeyRing
from api.dispatching import City, Dispatching
from api.gateway import serve_gateway
from api.http import serve_http
from api.http.answers import view_event
from api.journal import CityShape
from api.logs import set_up_logs
from api.sequencer import run_sequencer
from api.settings import CityArea, Settings
from api.store import Positioned, Store, migrate
from api.supervisor import announce_ready
from api.tidying import keep_tidy
from api.traces import set_up_traces
from api.webhooks import run_sender
from dispatch.policy import Policy
from geo.datum import System
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
class How:
    """How a city is dispatched."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    policy: Policy = field(default_factory=Policy)
    travel: Travel = field(default_factory=Travel)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchFile(How):
    """`dispatch.yaml` of the data folder: how its cities are dispatched.

    `cities` holds by name what is different there, filled up from the rest of the file.
    """

    cities: dict[str, How] = field(default_factory=dict)

    def city(self, area: CityArea) -> City:
        """The area as the file would have it dispatched."""
        how = self.cities.get(area.name, self)
        travel = how.travel.model, how.travel.detour
        shape = CityShape(
            name=area.name, lat=area.lat, lon=area.lon, travel=travel[0], detour=travel[1]
        )
        return City(shape, how.policy)


def read_dispatch_file(data: Path) -> DispatchFile:
    """The file of the folder, or all defaults where there is none.

    Raises InvalidValue naming a key that nothing reads or a wrong value.
    """
    path = data / DISPATCH_NAME
    if not path.is_file():
        return DispatchFile()
    try:
        found = _filled_up(read_yaml(path.read_text(), str(path)))
        return TypeAdapter(DispatchFile).validate_python(found)
    except ValidationError as error:
        wrong = first_wrong(error, DispatchFile)
        field = f"{path}: {wrong.field}" if wrong.field else str(path)
        raise type(wrong)(field, wrong.value, wrong.expected) from None


def _filled_up(found: Any) -> Any:
    """What is said of one city stands beside what is said of all."""
    if found is None:
        return {}
    if not (isinstance(found, dict) and isinstance(found.get("cities"), dict)):
        return found
    common = {name: found[name] for name in ("policy", "travel") if name in found}
    cities = {name: _merged(common, city) for name, city in found["cities"].items()}
    return found | {"cities": cities}


def _merged(common: Any, own: Any) -> Any:
    if not (isinstance(common, dict) and isinstance(own, dict)):
        return own
    return common | {k: _merged(common.get(k), v) for k, v in own.items()}


async def dispatcher(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Dispatches this process's share of the cities in the way of the folder's `dispatch.yaml`."""
    how = read_dispatch_file(settings.data)
    cities = [how.city(area) for area in settings.cities]
    store = await Store.open(settings.postgres_url)
    redis = Redis.from_url(
        settings.redis_url, socket_timeout=REDIS_LIMIT_S, socket_connect_timeout=REDIS_LIMIT_S
    )
    try:
        await Dispatching(store, redis, cities, settings.data / "journal").run(stop, ready)
    finally:
        await redis.aclose()
        await store.close()


async def gateway(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    store = await Store.open(settings.postgres_url, data_keys=KeyRing.open(settings.data_keys))
    try:
        await serve_gateway(
            settings, store, settings.redis_url, stop, ready=lambda port: ready.set()
        )
    finally:
        await store.close()


async def http(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    await serve_http(settings, stop, ready=lambda port: ready.set())


async def sequencer(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    store = await Store.open(
        settings.postgres_url,
        data_keys=KeyRing.open(settings.data_keys),
        keep_personal_days=settings.keep_personal_days,
    )
    tidying = asyncio.create_task(keep_tidy(store, stop), name="tidy personal data")
    try:
        ready.set()
        await run_sequencer(store, settings.redis_url, stop, settings.keep)
    finally:
        tidying.cancel()
        await asyncio.gather(tidying, return_exceptions=True)
        await store.close()


async def webhooks(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    def view(entry: Positioned, coordinate_system: str) -> Mapping[str, Any]:
        return view_event(entry, System(coordinate_system)).model_dump(mode="json")

    store = await Store.open(settings.postgres_url)
    try:
        ready.set()
        await run_sender(store, settings.webhooks, view, stop)
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
    "webhooks": webhooks,
}


def run_role(name: str) -> None:
    """Runs one role until SIGTERM or SIGINT; says so to the supervisor once it serves."""
    if name not in ROLES:
        raise UnknownName("role", name, "one of " + ", ".join(sorted([*ROLES, "bots"])))
    set_up_logs(name)
    set_up_traces(name)
    settings = Settings.from_environment()
    run_until_signal(lambda stop, ready: ROLES[name](settings, stop, ready))


def run_bots(scenario: str, seed: int) -> None:
    """Runs the bots of a scenario against the live system of the environment."""
    from api.cli.bots import Bots
    from sim.scenario import load_scenario

    set_up_logs("bots")
    settings = Settings.from_environment()
    town = load_scenario(scenario)

    async def work(stop: asyncio.Event, ready: asyncio.Event) -> None:
        await Bots(settings, town, seed).run(stop, ready)

    run_until_signal(work)


def log_without_values() -> None:
    """Tracebacks of structlog in their plain form: its usual one prints every local variable."""
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], renderer])


def run_until_signal(work: Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]) -> None:
    """Runs `work(stop, ready)` on uvloop; a signal sets `stop`, a set `ready` is announced."""
    import uvloop

    log_without_values()

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
