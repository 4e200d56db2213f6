"""The gateway process: accepts the clients' sockets and runs all that serves them.

May import everything of `api`.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

import structlog
from redis.asyncio import Redis
from redis.asyncio import from_url as redis_from_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from api.gateway.audience import Audience
from api.gateway.city_map import CityMap
from api.gateway.connection import Connection, Parts
from api.gateway.followers import follow_events, follow_frames, tick_map
from api.gateway.ingest import Ingest
from api.gateway.marks import Watermarks
from api.gateway.mirror import Mirror
from api.gateway.publish import Publisher
from api.guard import Guard
from api.messages import CODECS, FRAME_BYTES_MAX, JSON
from api.pool import Pool
from api.rates import Limit, Rates
from api.segments import SegmentWriter
from api.session import CloseCode, Session
from api.settings import Settings
from api.store import Store
from geo.errors import RateLimited

log = structlog.get_logger(__name__)

STREAM_PATH = "/v1/stream"
HEALTH_PATH = "/healthz"
CONNECTIONS_MAX = 20_000
OPEN_LIMIT_S = 10.0
PING_S = 20.0
CLOSE_LIMIT_S = 3.0
# How long connections wait for the first look at the city.
LOAD_LIMIT_S = 5.0
REDIS_LIMIT_S = 2.0
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
    """Serve the city's websocket stream until `stop` is set; `ready` is told the port.

    Fixes go to segments under `settings.data / "segments"`. On stop nothing more is read, what
    was read is journaled and acknowledged, and every socket is closed with 1001.
    """
    writer = writer or SegmentWriter(settings.data / "segments", f"g{uuid.uuid4().hex[:12]}")
    # One client for what must not wait and one for the blocking reads.
    redis = _redis(redis_url)
    following = _redis(redis_url)
    city = settings.city
    pool = Pool(redis, city.name)
    audience, mirror = Audience(), Mirror()
    city_map = CityMap(city, mirror, audience)
    publisher = Publisher(store, mirror, audience, city_map)
    ingest = Ingest(writer, pool, _settled(audience), _lost(audience))
    marks = Watermarks(pool)
    guard, rates = Guard.of(settings, store), Rates(settings.rates, redis)
    guard.hurry_on_hangup()
    parts = Parts(guard, store, marks, ingest, audience, publisher, city_map, rates)
    door = _Door(city.name, parts, rates)
    loaded = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(work)
                for work in (
                    writer.run(),
                    ingest.run(),
                    ingest.project(),
                    follow_events(store, following, pool, city.name, publisher, loaded, stop),
                    follow_frames(Pool(following, city.name), publisher),
                    tick_map(city_map),
                    guard.run(lambda: _look_again(audience)),
                )
            ]
            await _first(loaded, stop)
            async with serve(
                door.handle,
                settings.host,
                settings.stream_port,
                subprotocols=[Subprotocol(name) for name in CODECS],
                select_subprotocol=_select_subprotocol,
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
                log.info("gateway_listens", host=settings.host, port=port, city=city.name)
                if ready is not None:
                    ready(port)
                await stop.wait()
                await _leave(server, audience, ingest)
            for task in background:
                task.cancel()
        await ingest.drain(DRAIN_S)
    finally:
        await writer.close()
        await redis.aclose()
        await following.aclose()
    log.info("gateway_stopped", **asdict(ingest.counts))


@dataclass(slots=True)
class _Door:
    """Lets clients in."""

    city: str
    parts: Parts
    rates: Rates

    async def handle(self, socket: ServerConnection) -> None:
        codec = CODECS[socket.subprotocol] if socket.subprotocol else JSON
        token = _token_of(socket.request)
        session = Session(uuid.uuid4().hex, self.city, codec, token)
        address = self._address(socket, socket.request)
        await Connection(socket, session, codec, self.parts, address).serve()

    def _address(self, socket: ServerConnection, request: Request | None) -> str:
        peer = socket.remote_address
        forwarded = request.headers.get_all("X-Forwarded-For") if request is not None else []
        return self.rates.address(peer[0] if peer else None, forwarded)

    async def check(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; None lets the upgrade go on."""
        path = urlsplit(request.path).path
        if path == HEALTH_PATH:
            return socket.respond(HTTPStatus.OK, "ok\n")
        if path != STREAM_PATH:
            return socket.respond(HTTPStatus.NOT_FOUND, f"the stream is at {STREAM_PATH}\n")
        if len(self.parts.audience.everyone) >= CONNECTIONS_MAX:
            return socket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections\n")
        try:
            await self.rates.hit(Limit.SOCKETS, self._address(socket, request))
        except RateLimited as error:
            refusal = socket.respond(HTTPStatus.TOO_MANY_REQUESTS, f"{error}\n")
            refusal.headers["Retry-After"] = str(error.retry_after_s)
            return refusal
        return None


def _look_again(audience: Audience) -> None:
    """The revocations have changed, or cannot be read."""
    for connection in list(audience.everyone):
        connection.look_again()


async def _leave(server: Server, audience: Audience, ingest: Ingest) -> None:
    """Read nothing more, journal and acknowledge what was read, then close every socket."""
    server.close(close_connections=False)
    connections = list(audience.everyone)
    for connection in connections:
        connection.deafen()
    await ingest.finish()
    for connection in connections:
        connection.end(CloseCode.GOING_AWAY, "the server is going away")
    if not connections:
        return
    gone = [asyncio.ensure_future(connection.gone.wait()) for connection in connections]
    _, left = await asyncio.wait(gone, timeout=CLOSE_LIMIT_S)
    for connection in connections:
        connection.abort()
    for waiting in left:
        waiting.cancel()


async def _first(loaded: asyncio.Event, stop: asyncio.Event) -> None:
    """Until one of them is set, LOAD_LIMIT_S at most: fixes are taken without orders too."""
    waiting = [asyncio.ensure_future(event.wait()) for event in (loaded, stop)]
    await asyncio.wait(waiting, timeout=LOAD_LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()


def _settled(audience: Audience) -> Callable[[str], None]:
    def settled(rider_id: str) -> None:
        connection = audience.rider(rider_id)
        if connection is not None:
            connection.fixes_stored()

    return settled


def _lost(audience: Audience) -> Callable[[str], None]:
    def lost(rider_id: str) -> None:
        connection = audience.rider(rider_id)
        if connection is not None:
            connection.fixes_lost()

    return lost


def _redis(url: str) -> Redis:
    # One retry, at once, for a connection that the server closed while it was idle.
    return redis_from_url(
        url,
        protocol=3,
        socket_timeout=REDIS_LIMIT_S,
        socket_connect_timeout=REDIS_LIMIT_S,
        retry=Retry(NoBackoff(), 1),
    )


def _token_of(request: Request | None) -> str | None:
    """The token of the header or else of the query; hello may bring another."""
    if request is None:
        return None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    given = parse_qs(urlsplit(request.path).query).get("token")
    return given[0] if given else None


def _quiet_logger() -> logging.Logger:
    """For the library, which at DEBUG writes every request down, with the token of its query."""
    logger = logging.getLogger("hexrun.gateway.websockets")
    logger.setLevel(logging.INFO)
    return logger


def _select_subprotocol(
    socket: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """The first that we speak; it is echoed. None, which means JSON, where none was offered."""
    for name in offered:
        if name in CODECS:
            return name
    if offered:
        raise NegotiationError("offer one of " + ", ".join(CODECS) + ", or none")
    return None
