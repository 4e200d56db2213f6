"""Serves the HTTP API until it is told to stop; may import uvicorn, redis and the store."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping

import uvicorn
from redis.asyncio import Redis

from api.guard import Guard
from api.http.app import make_app
from api.http.valve import Capacity
from api.settings import Settings
from api.store import Store, migrate, open_ring
from api.storewatch import watch_store, when_there
from geo.errors import StartupError

GRACE_S = 10
ANSWER_LIMIT_S = 2.0
POLL_S = 0.02


class _Server(uvicorn.Server):
    """Leaves the signals to the process, which sets `stop`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_http(
    settings: Settings,
    stop: asyncio.Event,
    *,
    ready: Callable[[int], None] | None = None,
    hall_orders_max: Mapping[str, int] | None = None,
) -> None:
    """Bring the database up to date, once it answers, and serve until `stop` is set.

    On `settings.host`:`http_port`, which several processes may serve. `ready` is called with the
    port once it listens. After `stop`, `/readyz` is 503 and the door stays open for
    `settings.lead_s`; then requests that are under way have 10 s to end. `hall_orders_max` is by
    city, of its policy.

    Raises:
        StartupError: the port cannot be had.
        What ended one of the works beside the serving, which is ended then.
        What `migrate`, `open_ring` and `Store.open` raise.
    """

    async def opened() -> Store:
        await migrate(settings.postgres_url)
        data_keys = await open_ring(settings.data_keys, settings.postgres_url)
        return await Store.open(
            settings.postgres_url,
            data_keys=data_keys,
            masked_numbers=settings.masked_numbers,
            hall_orders_max=hall_orders_max,
        )

    store = await when_there(opened, stop)
    if store is None:
        return
    redis = Redis.from_url(settings.redis_url, socket_timeout=ANSWER_LIMIT_S)
    try:
        listening = _listen(settings.host, settings.http_port)
    except OSError as error:
        await redis.aclose()
        await store.close()
        where = f"{settings.host}:{settings.http_port}"
        raise StartupError(f"cannot listen on {where}: {error.strerror}; is it in use?") from None
    app = make_app(store, settings, redis)
    capacity: Capacity = app.state.capacity
    guard: Guard = app.state.parts.guard
    guard.hurry_on_hangup()
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # whom to believe is said by HEXRUN_TRUSTED_PROXIES
            timeout_graceful_shutdown=GRACE_S,
        )
    )
    # Not before what was revoked is known: a token that is over must not get in meanwhile.
    await guard.look()
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="http")
    stopped = asyncio.create_task(stop.wait())
    works = capacity.load.run(), watch_store(store, stop), guard.run()
    beside = [asyncio.create_task(work) for work in works]
    try:
        while not server.started and not serving.done() and not stop.is_set():
            await asyncio.wait({serving, stopped}, timeout=POLL_S)
        if server.started and ready is not None:
            ready(listening.getsockname()[1])
        await asyncio.wait({serving, stopped, *beside}, return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            _raise_ended(beside)
        capacity.leaving = True
        await asyncio.wait({serving}, timeout=settings.lead_s)
    finally:
        stopped.cancel()
        server.should_exit = True
        try:
            await serving
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            listening.close()
            await redis.aclose()
            await store.close()


def _raise_ended(beside: list[asyncio.Task[None]]) -> None:
    """None of them ends before the process does: what ended unseen would be missing for good."""
    for task in beside:
        if task.done():
            task.result()
            raise RuntimeError(f"{task.get_name()} has ended while HTTP serves")


def _listen(host: str, port: int) -> socket.socket:
    """A socket whose port another process of this user may serve as well."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.bind((host, port))
    except BaseException:
        listening.close()
        raise
    return listening
