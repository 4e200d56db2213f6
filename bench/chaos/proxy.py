"""A TCP proxy that misbehaves on demand: `python -m bench.chaos.proxy CONFIG`.

CONFIG is JSON: {"levers": folder, "targets": {name: [listen port, host, port]}}. The lever
`proxy.NAME` says how the target behaves:

    open            bytes pass
    cut             every connection is reset, and each new one at once
    delay MS        bytes pass so much later, either way
    stall           connections stand, no byte passes until it is over; then all of them do
    half_open       what the client says passes, what the server says is lost; once it is over, the
                    connections that lost something are reset
    silence         every connection, and each new one, is dead without a word; once it is over new
                    ones are good, and the old ones stay as they are until the client gives up; the
                    server does after SERVER_LIMIT_S, as it was told by its clients
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path

import uvloop

from bench.chaos.levers import Levers

LOOK_S = 0.02
CHUNK = 65_536
SERVER_LIMIT_S = 7.0


class Target:
    """One listening port and the server behind it."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name, self.host, self.port = name, host, port
        self.mode, self.delay_s = "open", 0.0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.connections: set[Connection] = set()

    def behave(self, text: str) -> None:
        """Takes a lever's position."""
        mode, _, amount = text.strip().partition(" ")
        if mode not in ("open", "cut", "delay", "stall", "half_open", "silence"):
            raise ValueError(f"proxy.{self.name}: {text!r} is no way to behave")
        self.mode = mode
        self.delay_s = float(amount) / 1000 if mode == "delay" else 0.0
        if mode == "stall":
            self.flowing.clear()
        else:
            self.flowing.set()
        for connection in list(self.connections):
            if mode == "silence":
                connection.fall_silent()
            if mode == "cut" or (mode != "half_open" and connection.lossy):
                connection.reset()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client from the first byte to the last."""
        connection = Connection(self, writer)
        self.connections.add(connection)
        try:
            await connection.run(reader)
        finally:
            self.connections.discard(connection)


class Connection:
    """A client's connection and its twin to the server."""

    def __init__(self, target: Target, client: asyncio.StreamWriter) -> None:
        self._target, self._client = target, client
        self._server: asyncio.StreamWriter | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self.lossy = False
        self.dead = False

    def reset(self) -> None:
        """Ends both sides without a goodbye."""
        for writer in (self._client, self._server):
            if writer is not None:
                writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    def fall_silent(self) -> None:
        """No byte passes any more, either way; the server notices by its keep-alives."""
        if not self.dead:
            self.dead = True
            asyncio.get_running_loop().call_later(SERVER_LIMIT_S, self._leave_server)

    def _leave_server(self) -> None:
        if self._server is not None:
            self._server.transport.abort()

    async def run(self, reader: asyncio.StreamReader) -> None:
        if self._target.mode == "silence":
            self.fall_silent()
        try:
            if self._target.mode == "cut":
                return
            await self._target.flowing.wait()
            back, self._server = await asyncio.open_connection(self._target.host, self._target.port)
            self._pumps = [
                asyncio.create_task(self._pump(reader, self._server, loses=False)),
                asyncio.create_task(self._pump(back, self._client, loses=True)),
            ]
            await asyncio.wait(self._pumps, return_when=asyncio.FIRST_EXCEPTION)
        except OSError:
            pass
        finally:
            self.reset()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, loses: bool
    ) -> None:
        target = self._target
        while data := await reader.read(CHUNK):
            if target.delay_s:
                await asyncio.sleep(target.delay_s)
            await target.flowing.wait()
            if self.dead:
                continue
            if loses and target.mode == "half_open":
                self.lossy = True
                continue
            writer.write(data)
            await writer.drain()
        if not self.lossy and not self.dead:
            with contextlib.suppress(OSError):
                writer.write_eof()


async def run(config: dict[str, object], stop: asyncio.Event | None = None) -> None:
    """Proxies until `stop` is set, or for ever."""
    levers = Levers(Path(str(config["levers"])))
    targets: list[Target] = []
    servers = []
    for name, (listen, host, port) in config["targets"].items():  # type: ignore[attr-defined]
        target = Target(name, host, port)
        targets.append(target)
        servers.append(await asyncio.start_server(target.serve, "127.0.0.1", listen, backlog=512))
    seen: dict[str, str] = {}
    announce()
    while stop is None or not stop.is_set():
        for target in targets:
            text = levers.get(f"proxy.{target.name}", "open")
            if text != seen.get(target.name, "open"):
                target.behave(text)
            seen[target.name] = text
        await asyncio.sleep(LOOK_S)
    for server in servers:
        server.close()
    for target in targets:
        target.behave("cut")


def announce() -> None:
    """Tells the supervisor that this process serves, as `api.supervisor` has it."""
    import os

    number = os.environ.pop("HEXRUN_READY_FD", None)
    if number is not None:
        with os.fdopen(int(number), "wb") as pipe:
            pipe.write(b"ready\n")


if __name__ == "__main__":
    uvloop.run(run(json.loads(Path(sys.argv[1]).read_text())))
