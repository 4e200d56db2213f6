"""How endpoints are connected to: only at addresses that were just checked; may import httpcore2.

asyncio's transports without anyio between: whoever waits for an endpoint limits the time himself,
and head and body of a request leave in one packet.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, cast

import httpcore2

from api.webhooks.targets import addresses_of

UNREAD_BYTES_MAX = 65_536


class CheckedNetwork(httpcore2.AsyncNetworkBackend):
    """Connects to addresses that were just checked, whatever the name says a moment later."""

    def __init__(self, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Raises ConnectError, RefusedAddress, or OSError for a name that is not known."""
        bare = host.removeprefix("[").removesuffix("]")
        addresses = await addresses_of(bare, port, allow_private=self._allow_private)
        for address in addresses[:-1]:
            try:
                return await _connect(address, port)
            except httpcore2.ConnectError:
                continue
        return await _connect(addresses[-1], port)


async def _connect(address: str, port: int) -> _Stream:
    try:
        _, stream = await asyncio.get_running_loop().create_connection(_Stream, address, port)
    except OSError as error:
        raise httpcore2.ConnectError(error) from error
    return stream


class _Stream(asyncio.Protocol, httpcore2.AsyncNetworkStream):
    """One connection, plain or with TLS."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._unread = bytearray()
        self._ended = False
        self._lost: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    # --- what asyncio says ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not one by class

    def data_received(self, data: bytes) -> None:
        self._unread += data
        if len(self._unread) > UNREAD_BYTES_MAX and self._transport is not None:
            self._transport.pause_reading()
        self._tell()

    def eof_received(self) -> None:
        self._ended = True
        self._tell()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._lost = True, exc
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    # --- what httpcore2 asks ---

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        while not self._unread and not self._ended:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if not self._unread and self._lost is not None:
            raise httpcore2.ReadError(self._lost) from self._lost
        data = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        if self._transport is not None and not self._ended:
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._ended or self._transport is None:
            raise httpcore2.WriteError("the connection was lost") from self._lost
        self._transport.write(buffer)

    async def aclose(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        assert self._transport is not None
        try:
            self._transport = await asyncio.get_running_loop().start_tls(
                self._transport, self, ssl_context, server_hostname=server_hostname
            )
        except OSError as error:  # ssl.SSLError is one
            raise httpcore2.ConnectError(error) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # of an idle connection: the server hung up, or talks nonsense
            return self._ended or bool(self._unread)
        return None if self._transport is None else self._transport.get_extra_info(info)
