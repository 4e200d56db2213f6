"""One POST to an endpoint, and what came of it; may import httpcore2, the clock and the codec.

httpcore2 itself, not the client above it: no cookies, redirects and proxies to turn off, and a
place to say which address is connected to.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpcore2

from api.clock import monotonic_s, now_ms
from api.codec import to_json
from api.store.webhooks import Endpoint
from api.webhooks.network import CheckedNetwork
from api.webhooks.signing import sign
from api.webhooks.targets import RefusedAddress

ANSWER_LIMIT_S = 10.0
ANSWER_BYTES_MAX = 4_096
CONNECTIONS_MAX = 512
IDLE_CONNECTIONS_MAX = 128
# Node's servers hang up after 5 s; a request must not meet that.
IDLE_LIMIT_S = 4.0
GONE = 410
USER_AGENT = "hexrun-webhooks/1"

_FAILURES = (
    httpcore2.NetworkError,
    httpcore2.ProtocolError,
    httpcore2.TimeoutException,
    httpcore2.UnsupportedProtocol,
    ssl.SSLError,
    RefusedAddress,
    OSError,
)


class Outcome(NamedTuple):
    """What came of an attempt: the answer's status, or the error that there was none for."""

    status: int | None
    error: str | None
    latency_ms: int

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300

    @property
    def gone(self) -> bool:
        """The receiver does not want to be called any more."""
        return self.status == GONE

    @property
    def problem(self) -> str:
        """Why it is not delivered, in a few words."""
        return self.error or f"answered {self.status}"


def message(event_id: str, view: Mapping[str, Any]) -> bytes:
    """The body: the event as `GET /v1/events` shows it, and its id."""
    return to_json({"event_id": event_id, **view})


class WebhookCaller:
    """Calls endpoints over connections that it keeps; close it at the end."""

    def __init__(self, *, allow_private: bool, limit_s: float = ANSWER_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl.create_default_context(),
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=IDLE_CONNECTIONS_MAX,
            keepalive_expiry=IDLE_LIMIT_S,
            network_backend=CheckedNetwork(allow_private),
        )

    async def __aenter__(self) -> WebhookCaller:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.aclose()

    async def call(self, endpoint: Endpoint, event_id: str, body: bytes) -> Outcome:
        """Sign and send; never raises for what the receiver does."""
        at_ms = now_ms()
        headers = {
            "Host": urlsplit(endpoint.url).netloc,
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "Accept-Encoding": "identity",
            **sign(endpoint.keys_at(at_ms), event_id, at_ms // 1000, body),
        }
        began_s = monotonic_s()
        status, error = await self._post(endpoint.url, headers, body)
        return Outcome(status, error, round((monotonic_s() - began_s) * 1000))

    async def _post(
        self, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int | None, str | None]:
        status = None
        try:
            async with (
                asyncio.timeout(self._limit_s),
                self._pool.stream(
                    "POST", url, headers=list(headers.items()), content=body
                ) as answer,
            ):
                status = answer.status
                await _drain(answer)
        except _FAILURES as error:
            if status is None:
                return None, _told(error, self._limit_s)
        return status, None


async def _drain(answer: httpcore2.Response) -> None:
    """Read a short body so that the connection can be used again; a long one ends it."""
    seen = 0
    async for part in answer.aiter_stream():
        seen += len(part)
        if seen > ANSWER_BYTES_MAX:
            return


def _told(error: BaseException, limit_s: float) -> str:
    """Few words, and none of the receiver's own: they end up in lists and in logs."""
    if isinstance(error, RefusedAddress):
        return "the address is refused: it is not public"
    if isinstance(error, TimeoutError | httpcore2.TimeoutException):
        return f"no answer within {limit_s:g} s"
    if isinstance(error, httpcore2.ConnectError | ssl.SSLError):
        cause = error.__cause__ or error.__context__ or error
        if isinstance(error, ssl.SSLError) or isinstance(cause, ssl.SSLError):
            return "no TLS connection: the certificate or the protocol does not fit"
        return "cannot connect"
    if isinstance(error, httpcore2.ProtocolError):
        return "the answer is not HTTP, or ended early"
    if isinstance(error, httpcore2.NetworkError):
        return "the connection was lost"
    return "the host cannot be found"
