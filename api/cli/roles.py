"""One process of the live system each, as the supervisor or an operator's own unit starts it.

Each role imports what it is made of when it starts: a process that was killed is back as soon as
Python has read its modules, and no role needs those of another.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from api.logs import set_up_logs
from api.settings import Settings
from api.status import status_door
from api.storewatch import when_there
from api.supervisor.process import announce_ready
from api.traces import set_up_traces
from geo.datum import warm_up
from geo.errors import HexrunError, UnknownName

if TYPE_CHECKING:
    from api.store import Positioned

log = structlog.get_logger(__name__)

STARTED_S = 5.0
REDIS_LIMIT_S = 2.0  # longer than the half second of a blocking read
Role = Callable[[Settings, asyncio.Event, asyncio.Event], Awaitable[None]]


async def dispatcher(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Dispatches this process's share of the cities in the way of the folder's `dispatch.yaml`."""
    from redis.asyncio import Redis

    from api.cli.dispatch_file import read_dispatch_file
    from api.dispatching import Dispatching
    from api.store import Store

    how = read_dispatch_file(settings.data)
    cities = [how.city(area) for area in settings.cities]
    dispatching: Dispatching | None = None

    def facts() -> Mapping[str, Any]:
        return {} if dispatching is None else dispatching.facts()

    async with status_door("dispatcher", settings, stop, ready, facts):
        store = await when_there(lambda: Store.open(settings.postgres_url), stop)
        if store is None:
            return
        redis = Redis.from_url(
            settings.redis_url, socket_timeout=REDIS_LIMIT_S, socket_connect_timeout=REDIS_LIMIT_S
        )
        try:
            dispatching = Dispatching(store, redis, cities, settings.data / "journal")
            await dispatching.run(stop, ready)
        finally:
            await redis.aclose()
            await store.close()


async def gateway(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Takes fixes from the start, also while PostgreSQL is away."""
    from api.data_keys import KeyRing
    from api.gateway import serve_gateway
    from api.store import UNAVAILABLE, Store, open_ring

    async with status_door("gateway", settings, stop, ready):
        try:
            keys = await open_ring(settings.data_keys, settings.postgres_url)
        except UNAVAILABLE:
            keys = KeyRing.open(settings.data_keys)  # fixes do not wait for the database
        store = await Store.open(settings.postgres_url, data_keys=keys, may_be_away=True)
        warming = asyncio.create_task(_warm_up_after(ready), name="warm up")
        try:
            await serve_gateway(
                settings, store, settings.redis_url, stop, ready=lambda port: ready.set()
            )
        finally:
            warming.cancel()
            await store.close()


async def http(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Of the folder's `dispatch.yaml` it knows what holds for claims from the hall."""
    from api.cli.dispatch_file import read_dispatch_file
    from api.http import serve_http

    how = read_dispatch_file(settings.data)
    most = {area.name: how.of(area.name).policy.hall_orders_max for area in settings.cities}
    async with status_door("http", settings, stop, ready):
        warming = asyncio.create_task(_warm_up_after(ready), name="warm up")
        try:
            await serve_http(settings, stop, ready=lambda port: ready.set(), hall_orders_max=most)
        finally:
            warming.cancel()


async def _warm_up_after(ready: asyncio.Event) -> None:
    """The first conversion of a place takes half a second: begin it when the door is open."""
    await ready.wait()
    await asyncio.to_thread(warm_up)


async def sequencer(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    from api.sequencer import run_sequencer
    from api.store import Store, open_ring
    from api.tidying import keep_tidy

    facts: dict[str, Any] = {}

    async def opened() -> Store:
        url = settings.postgres_url
        keys = await open_ring(settings.data_keys, url)
        days = settings.keep_personal_days
        return await Store.open(url, data_keys=keys, keep_personal_days=days)

    async with status_door("sequencer", settings, stop, ready, lambda: facts):
        store = await when_there(opened, stop)
        if store is None:
            return
        tidying = asyncio.create_task(keep_tidy(store, stop), name="tidy personal data")
        try:
            ready.set()
            await run_sequencer(store, settings.redis_url, stop, settings.keep, facts)
        finally:
            tidying.cancel()
            await asyncio.gather(tidying, return_exceptions=True)
            await store.close()


async def webhooks(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    from api.http.answers import view_event
    from api.store import Store
    from api.webhooks import run_sender
    from geo.datum import System

    def view(entry: Positioned, coordinate_system: str) -> Mapping[str, Any]:
        return view_event(entry, System(coordinate_system)).model_dump(mode="json")

    facts: dict[str, Any] = {}
    async with status_door("webhooks", settings, stop, ready, lambda: facts):
        store = await when_there(lambda: Store.open(settings.postgres_url), stop)
        if store is None:
            return
        try:
            ready.set()
            await run_sender(store, settings.webhooks, view, stop, facts=facts)
        finally:
            await store.close()


async def migrate_once(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """Brings the database's tables up to date and ends."""
    from api.store import migrate

    await when_there(lambda: migrate(settings.postgres_url), stop)
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
    """Runs one role until SIGTERM or SIGINT; says so to the supervisor once it serves.

    Ends with code 2 for an error of our own tree and 1 for any other; each is a line of its log.
    """
    if name not in ROLES:
        raise UnknownName("role", name, "one of " + ", ".join(sorted([*ROLES, "bots"])))
    # What is read at a start stays: looking through it for garbage takes a fifth of the time.
    gc.disable()
    set_up_logs(name)
    try:
        set_up_traces(name)
        settings = Settings.from_environment()
        run_until_signal(lambda stop, ready: ROLES[name](settings, stop, ready))
    except HexrunError as error:
        log.error("role_ended", error=str(error))
        sys.exit(2)
    except Exception:
        log.exception("role_failed")
        sys.exit(1)


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


def run_until_signal(work: Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]) -> None:
    """Runs `work(stop, ready)` on uvloop; a signal sets `stop`, a set `ready` is announced."""
    import uvloop

    async def run() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(STARTED_S, _collect_garbage)
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


def _collect_garbage() -> None:
    """From now on, and without looking through what the start has read."""
    gc.freeze()
    gc.enable()
