"""The gateway process: accepts the clients' sockets and runs all that serves them.

May import everything of `api`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Collection, Coroutine
from dataclasses import asdict
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.asyncio import from_url as redis_from_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from websockets.asyncio.server import Server, serve
from websockets.typing import Subprotocol

from api.cancelling import end_if_cancelled
from api.capacity import Budget
from api.gateway.connection import Connection, Parts
from api.gateway.door import STREAM_PATH, Door, select_subprotocol
from api.gateway.entrance import Entrance
from api.gateway.ingest import ROWS_MAX
from api.gateway.room import Room
from api.guard import Guard
from api.messages import CODECS, FRAME_BYTES_MAX
from api.rates import Rates
from api.segments import SegmentWriter
from api.session import CloseCode
from api.settings import Settings
from api.store import Store
from api.storewatch import watch_store

__all__ = ["STREAM_PATH", "serve_gateway"]

log = structlog.get_logger(__name__)

OPEN_LIMIT_S = 10.0
PING_S = 20.0
CLOSE_LIMIT_S = 3.0
# How long connections wait for the first look at the cities.
LOAD_LIMIT_S = 5.0
REDIS_LIMIT_S = 2.0
# On the way out: how long actions that were read may take, and positions on their way to Redis.
ACTIONS_LIMIT_S = 3.0
DRAIN_S = 2.0


async def serve_gateway(
    settings: Settings,
    store: Store,
    redis_url: str,
    stop: asyncio.Event,
    *,
    ready: Callable[[int], None] | None = None,
    writer: SegmentWriter | None = None,
) -> None:
    """Serve the websocket stream of all cities of the settings until `stop` is set.

    Several processes may serve one port; `ready` is told it. Fixes go to segments under
    `settings.data / "segments"`, a record a city. On stop `/readyz` is 503 and the door stays
    open for `settings.lead_s`; then nothing more is read, what was read is carried out, journaled
    and acknowledged, and every socket is closed with 1012: its client goes to another process.
    """
    writer = writer or SegmentWriter(settings.data / "segments", f"g{uuid.uuid4().hex[:12]}")
    # One client for what must not wait and one for the blocking reads.
    redis, following = _redis(redis_url), _redis(redis_url)
    limits = settings.limits
    reads = Budget("reads", limits.reads_at_once, limits.reads_waiting)
    rows_max = ROWS_MAX // len(settings.cities)
    rooms = {
        area.name: Room(area, store, redis, following, writer, reads, rows_max)
        for area in settings.cities
    }
    entrance = Entrance(limits)
    guard, rates = Guard.of(settings, store), Rates(settings.rates, redis)
    guard.hurry_on_hangup()
    parts = Parts(guard, store, rooms, set(), entrance, rates)
    door = Door(parts, settings.metrics_for)

    def store_is(there: bool) -> None:
        for room in rooms.values():
            room.store_is(there)

    works = [
        writer.run(),
        entrance.load.run(),
        watch_store(store, stop, store_is),
        guard.run(lambda: _look_again(parts.everyone)),
    ]
    for room in rooms.values():
        works += room.works(stop)
    try:
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(work) for work in works]
            await _first(rooms.values(), stop)
            async with serve(
                door.handle,
                settings.host,
                settings.stream_port,
                reuse_port=True,
                subprotocols=[Subprotocol(name) for name in CODECS],
                select_subprotocol=select_subprotocol,
                process_request=door.check,
                compression=None,
                max_size=FRAME_BYTES_MAX,
                open_timeout=OPEN_LIMIT_S,
                ping_interval=PING_S,
                ping_timeout=PING_S,
                close_timeout=CLOSE_LIMIT_S,
                server_header="hexrun",
                logger=_quiet_logger(),
            ) as server:
                port = server.sockets[0].getsockname()[1]
                log.info("gateway_listens", host=settings.host, port=port, cities=list(rooms))
                if ready is not None:
                    ready(port)
                await stop.wait()
                entrance.leaving = True
                await asyncio.sleep(settings.lead_s)
                await _leave(server, parts)
            for task in background:
                task.cancel()
    finally:
        await writer.close()
        await redis.aclose()
        await following.aclose()
    for room in rooms.values():
        log.info("gateway_stopped", city=room.name, **asdict(room.ingest.counts))


def _look_again(everyone: set[Connection]) -> None:
    """The revocations have changed, or cannot be read."""
    for connection in list(everyone):
        connection.look_again()


async def _leave(server: Server, parts: Parts) -> None:
    """Read nothing more, settle what was read, then send every client to another process."""
    parts.entrance.shut = True
    server.close(close_connections=False)
    connections = list(parts.everyone)
    for connection in connections:
        connection.deafen()
    await _within(ACTIONS_LIMIT_S, [connection.idle() for connection in connections])
    ingests = [room.ingest for room in parts.rooms.values()]
    await asyncio.gather(*(ingest.finish() for ingest in ingests))
    # Before the clients go: the next process learns from the pool how far each rider is.
    await asyncio.gather(*(ingest.drain(DRAIN_S) for ingest in ingests))
    for connection in connections:
        connection.end(CloseCode.SERVICE_RESTART, "the server restarts; connect again at once")
    await _within(CLOSE_LIMIT_S, [connection.gone.wait() for connection in connections])
    for connection in connections:
        connection.abort()


async def _within(limit_s: float, works: Collection[Coroutine[Any, Any, Any]]) -> None:
    """Until all are done, `limit_s` seconds at most."""
    if not works:
        return
    tasks = [asyncio.create_task(work) for work in works]
    _, late = await asyncio.wait(tasks, timeout=limit_s)
    for task in late:
        task.cancel()


async def _first(rooms: Collection[Room], stop: asyncio.Event) -> None:
    """Until all cities are loaded, LOAD_LIMIT_S at most: fixes are taken without orders too."""
    waiting = asyncio.gather(*(room.loaded.wait() for room in rooms))
    stopped = asyncio.create_task(stop.wait())
    stopped.add_done_callback(lambda done: waiting.cancel())
    try:
        async with asyncio.timeout(LOAD_LIMIT_S):
            await waiting
    except (TimeoutError, asyncio.CancelledError):
        end_if_cancelled()
    finally:
        stopped.cancel()


def _redis(url: str) -> Redis:
    # One retry, at once, for a connection that the server closed while it was idle.
    return redis_from_url(
        url,
        protocol=3,
        socket_timeout=REDIS_LIMIT_S,
        socket_connect_timeout=REDIS_LIMIT_S,
        retry=Retry(NoBackoff(), 1),
    )


def _quiet_logger() -> logging.Logger:
    """For the library, which at DEBUG writes every request down, with the token of its query."""
    logger = logging.getLogger("hexrun.gateway.websockets")
    logger.setLevel(logging.INFO)
    return logger
