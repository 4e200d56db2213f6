"""Receivers of webhooks: a small HTTP server that logs what it gets and fails when told to.

The lever `receivers` says how it answers: 200, 500, timeout (never) or reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import json

from bench.chaos.levers import Levers
from bench.chaos.logs import Log

LATE_S = 60.0


class Receivers:
    """One server; the path names the endpoint."""

    def __init__(self, log: Log, levers: Levers) -> None:
        self._log, self._levers = log, levers
        self.taken: dict[str, set[int]] = {}
        """The positions that each endpoint has taken."""

    async def serve(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._client, "127.0.0.1", port)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
            while await self._request(reader, writer):
                pass
        writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        path = head[0].split()[1]
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in head[1:])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        mode = self._levers.get("receivers", "200")
        if mode == "reset":
            writer.transport.abort()
            return False
        if mode == "timeout":
            await asyncio.sleep(LATE_S)
            return False
        self._note(path, body, mode)
        reason = "OK" if mode == "200" else "Failed"
        writer.write(f"HTTP/1.1 {mode} {reason}\r\nContent-Length: 0\r\n\r\n".encode())
        await writer.drain()
        return True

    def _note(self, path: str, body: bytes, mode: str) -> None:
        try:
            event = json.loads(body)
        except ValueError:
            event = {}
        endpoint = path.strip("/")
        if mode == "200":
            self.taken.setdefault(endpoint, set()).add(event.get("position", -1))
        names = ("event_id", "position", "subject", "id", "seq", "kind")
        self._log.write(
            "receipt",
            endpoint=endpoint,
            answer=int(mode),
            **{name: event.get(name) for name in names},
        )
