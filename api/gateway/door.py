"""Lets clients in, and answers plain HTTP on the stream's port; may import websockets."""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import NegotiationError
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from api.capacity import overloaded
from api.exposition import METRICS_PATH, degraded_now, exposed, may_read
from api.gateway import counters
from api.gateway.connection import Connection, Parts
from api.messages import CODECS, JSON
from api.metrics import Mode, modes
from api.rates import Limit
from api.session import Session
from geo.errors import RateLimited

STREAM_PATH = "/v1/stream"
JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain; charset=utf-8"


class Door:
    """One handler a socket; `metrics_for` says who may read the metrics."""

    def __init__(self, parts: Parts, metrics_for: str) -> None:
        self._parts, self._metrics_for = parts, metrics_for

    async def handle(self, socket: ServerConnection) -> None:
        """Serve one client until his socket is closed."""
        codec = CODECS[socket.subprotocol] if socket.subprotocol else JSON
        token = _token_of(socket.request)
        session = Session(uuid.uuid4().hex, self._parts.rooms, codec, token)
        address = self._address(socket, socket.request)
        await Connection(socket, session, codec, self._parts, address).serve()

    def _address(self, socket: ServerConnection, request: Request | None) -> str:
        peer = socket.remote_address
        forwarded = request.headers.get_all("X-Forwarded-For") if request is not None else []
        return self._parts.rates.address(peer[0] if peer else None, forwarded)

    async def check(self, socket: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP; None lets the upgrade go on."""
        path = urlsplit(request.path).path
        if path == STREAM_PATH:
            return await self._upgrade(self._address(socket, request))
        if path == "/livez":
            return _answer(HTTPStatus.OK, b'{"status": "ok"}')
        if path == "/readyz":
            return self._ready()
        if path == METRICS_PATH:
            peer = socket.remote_address[0] if socket.remote_address else None
            if not may_read(peer, self._metrics_for):
                return _answer(HTTPStatus.FORBIDDEN, b"not for this address\n", TEXT_TYPE)
            return _answer(HTTPStatus.OK, *exposed())
        return _answer(
            HTTPStatus.NOT_FOUND, f"the stream is at {STREAM_PATH}\n".encode(), TEXT_TYPE
        )

    async def _upgrade(self, address: str) -> Response | None:
        entrance = self._parts.entrance
        if entrance.shut:
            counters.REFUSED.labels("leaving").inc()
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, b"the server restarts\n", TEXT_TYPE)
        if len(self._parts.everyone) >= entrance.limits.connections:
            counters.REFUSED.labels("connections").inc()
            why = str(overloaded("connections"))
            return _answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n".encode(), TEXT_TYPE)
        try:
            await self._parts.rates.hit(Limit.SOCKETS, address)
        except RateLimited as error:
            counters.REFUSED.labels("rate").inc()
            refusal = _answer(HTTPStatus.TOO_MANY_REQUESTS, f"{error}\n".encode(), TEXT_TYPE)
            refusal.headers["Retry-After"] = str(error.retry_after_s)
            return refusal
        return None

    def _ready(self) -> Response:
        """503 while clients should go to another process: this one leaves, or cannot store."""
        leaving = self._parts.entrance.leaving
        stores = (Mode.DISK_FAILS, "") not in modes()
        body = {
            "leaving": leaving,
            "connections": len(self._parts.everyone),
            "cities": {name: room.loaded.is_set() for name, room in self._parts.rooms.items()},
            "degraded": degraded_now(),
        }
        ready = stores and not leaving
        status = HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE
        return _answer(status, json.dumps(body).encode())


def _answer(status: HTTPStatus, body: bytes, kind: str = JSON_TYPE) -> Response:
    headers = Headers(
        [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
    )
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = "1"
    return Response(status.value, status.phrase, headers, body)


def _token_of(request: Request | None) -> str | None:
    """The token of the header or else of the query; hello may bring another."""
    if request is None:
        return None
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    given = parse_qs(urlsplit(request.path).query).get("token")
    return given[0] if given else None


def select_subprotocol(
    socket: ServerConnection, offered: Sequence[Subprotocol]
) -> Subprotocol | None:
    """The first that we speak; it is echoed. None, which means JSON, where none was offered."""
    for name in offered:
        if name in CODECS:
            return name
    if offered:
        raise NegotiationError("offer one of " + ", ".join(CODECS) + ", or none")
    return None
