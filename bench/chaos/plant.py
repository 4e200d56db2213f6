"""The live system as a run starts it: servers on TCP, two of each role, proxies between them all.

May import the product's supervisor.
"""

from __future__ import annotations

import json
import secrets
import socket
import sys
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import yaml

from api.cli.live import DOORS
from api.supervisor import Child, DataFolder, EmbeddedPostgres, EmbeddedValkey, Service
from bench.chaos.hurried import install
from bench.chaos.levers import Levers
from bench.chaos.shim import compile_shim, shim_environment

CITIES = (("chaos", 31.2304, 121.4737), ("disorder", 31.2989, 120.5853))
# About 60 times faster than a city: rounds, offers and the rest of an order in seconds.
DISPATCH = {
    "policy": {
        "version": "chaos",
        "tick_ms": 500,
        "offer_ms": 4_000,
        "complete_after_ms": 2_000,
        "decline_penalty_ms": 10_000,
    },
    "travel": {"model": "straight_line", "detour": 1.2},
}
TWO = (1, 2)
START_LIMIT_S = 300.0  # a dozen Python processes at once, on a machine that may be busy


def free_ports(count: int) -> list[int]:
    """Different ports of the loopback address that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class TcpPostgres(EmbeddedPostgres):
    """The embedded server on a TCP port as well; `url` may lead through a proxy."""

    def __init__(self, folder: DataFolder, port: int, url: str, preload: dict[str, str]) -> None:
        super().__init__(folder, {})
        self.port, self.url, self._preload = port, url, preload

    def _program(self, name: str, options: list[str], **rest: Any) -> Child:
        if name == "postgres":
            options = [*options, "-c", "listen_addresses=127.0.0.1", "-p", str(self.port)]
        child = super()._program(name, options, **rest)
        if name == "postgres":
            child._env.update(self._preload)
        return child

    async def _connect(self, database: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            host="127.0.0.1", port=self.port, user="hexrun", database=database
        )


class TcpValkey(EmbeddedValkey):
    """The embedded server on a TCP port as well; it is asked there, `url` leads through a proxy."""

    def __init__(self, folder: DataFolder, port: int, url: str) -> None:
        super().__init__(folder, {})
        self._port, self.url = port, url
        self._asked = EmbeddedValkey(folder, {})

    def child(self) -> Child:
        child = super().child()
        line = list(child.argv)
        line[line.index("--port") + 1] = str(self._port)
        child.argv = (*line, "--bind", "127.0.0.1")
        return child

    async def ready(self) -> bool:
        answers = await self._asked.ready()
        self.problem = self._asked.problem
        return answers


@dataclass(frozen=True)
class Plant:
    """What a run must know of its system."""

    services: list[Service]
    postgres: str
    """PostgreSQL's address past the proxy, for the checker."""
    redis: str
    """Redis' too."""


def make_plant(folder: DataFolder, run: dict[str, Any], *, role_env: dict[str, str]) -> Plant:
    """All services of a run; `run` is what load and faults are told besides addresses."""
    levers = Levers(folder.path / "levers")
    logs = folder.path / "told"
    for path in (levers.folder, logs):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    shim = compile_shim(folder.path)
    (folder.path / "dispatch.yaml").write_text(yaml.safe_dump(DISPATCH))
    names = ["postgres", "redis", "http-1", "http-2", "stream-1", "stream-2", "webhooks"]
    ports = free_ports(2 * len(names))
    inside = dict(zip(names, ports[: len(names)], strict=True))
    outside = dict(zip(names, ports[len(names) :], strict=True))
    targets = {name: (outside[name], "127.0.0.1", inside[name]) for name in names}
    config = {
        **run,
        "cities": CITIES,
        "secret": secrets.token_urlsafe(48),
        "data": str(folder.path),
        "levers": str(levers.folder),
        "logs": str(logs),
        "targets": targets,
        "http": [f"http://127.0.0.1:{outside[f'http-{n}']}" for n in TWO],
        "streams": [f"ws://127.0.0.1:{outside[f'stream-{n}']}/v1/stream" for n in TWO],
        "redis_url": f"redis://127.0.0.1:{inside['redis']}",
        "receivers_port": inside["webhooks"],
        "receivers": f"http://127.0.0.1:{outside['webhooks']}",
    }
    path = folder.path / "chaos.json"
    path.write_text(json.dumps(config, indent=1))
    path.chmod(0o600)

    def preload(service: str) -> dict[str, str]:
        return shim_environment(shim, levers, service)

    postgres = TcpPostgres(
        folder,
        inside["postgres"],
        f"postgresql+asyncpg://hexrun@127.0.0.1:{outside['postgres']}/hexrun",
        preload("postgres"),
    )
    valkey = TcpValkey(folder, inside["redis"], f"redis://127.0.0.1:{outside['redis']}")
    environment = {
        "HEXRUN_SECRET": config["secret"],
        "HEXRUN_CITY": ";".join(f"{name}:{lat},{lon}" for name, lat, lon in CITIES),
        "HEXRUN_WEBHOOK_ALLOW_PRIVATE": "1",
        "HEXRUN_WEBHOOK_RETRY_S": "0.5,1,1,2,2,2,2,2,2,2,2,2,2,2,2,2",
        **install(folder.path),
        **role_env,
    }

    def role(name: str, twin: int, after: tuple[str, ...], **env: str) -> Service:
        service = f"{name}-{twin}"
        env = {**environment, **preload(service), **env}
        started = Service.role(name, name=service, after=after, env=env, spare=name in DOORS)
        return replace(started, ready_limit_s=START_LIMIT_S)

    def tool(name: str, *after: str) -> Service:
        line = (sys.executable, "-m", f"bench.chaos.{name}", str(path))
        return Service(name, line, after=after, announces=True, ready_limit_s=START_LIMIT_S)

    after = ("postgres", "valkey", "migrate")
    gateways = [
        role("gateway", n, after, HEXRUN_STREAM_PORT=str(inside[f"stream-{n}"])) for n in TWO
    ]
    https = [role("http", n, after, HEXRUN_HTTP_PORT=str(inside[f"http-{n}"])) for n in TWO]
    # One that stands by is not ready until it owns the city: it counts as ready once it runs.
    dispatchers = [replace(role("dispatcher", n, after), announces=False) for n in TWO]
    migrate = Service.role("migrate", after=("proxy", "postgres", "valkey"), env=environment)
    services = [
        tool("proxy"),
        Service("postgres", server=postgres, after=("proxy",), ready_limit_s=START_LIMIT_S),
        Service("valkey", server=valkey, after=("proxy",)),
        replace(migrate, restart="on-failure", ready_limit_s=START_LIMIT_S),
        *(role("sequencer", n, after) for n in TWO),
        *dispatchers,
        *gateways,
        *https,
    ]
    services += [
        replace(role("webhooks", n, after), name=f"sender-{n}", announces=False) for n in TWO
    ]
    everyone = tuple(service.name for service in services)
    services.append(replace(tool("load", *everyone), restart="never"))
    services.append(replace(tool("faults", "load"), restart="never", announces=False))
    direct = f"postgresql://hexrun@127.0.0.1:{inside['postgres']}/hexrun"
    return Plant(services, direct, config["redis_url"])
