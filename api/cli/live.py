"""The live system of one machine under the supervisor: `hexrun up`, and the demo's services."""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import replace
from pathlib import Path

from api.settings import HTTP_PORT, STREAM_PORT
from api.supervisor import DataFolder, Service, Supervisor, server_services

MIGRATED = "migrate"
ROLES_IN_ORDER = ("sequencer", "dispatcher", "gateway", "http")


def live_services(folder: DataFolder) -> list[Service]:
    """PostgreSQL, Valkey, the migration, and every role, each after what it needs."""
    migrate = replace(Service.role(MIGRATED), restart="on-failure")
    after = ("postgres", "valkey", MIGRATED)
    roles = [Service.role(name, after=after) for name in ROLES_IN_ORDER]
    return [*server_services(folder), migrate, *roles]


def free_port(preferred: int, host: str = "127.0.0.1") -> int:
    """`preferred` if nobody listens there, else any free port."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise AssertionError("the system has no free port")


def set_ports(host: str = "127.0.0.1") -> tuple[int, int]:
    """Ports for HTTP and the stream, told to the roles by the environment."""
    http = int(os.environ.get("HEXRUN_HTTP_PORT") or free_port(HTTP_PORT, host))
    stream = int(os.environ.get("HEXRUN_STREAM_PORT") or free_port(STREAM_PORT, host))
    os.environ["HEXRUN_HTTP_PORT"], os.environ["HEXRUN_STREAM_PORT"] = str(http), str(stream)
    return http, stream


def up(data: Path) -> None:
    """Runs the live system on the folder until a signal."""

    async def run() -> None:
        http, stream = set_ports()
        with DataFolder(data) as folder:
            supervisor = Supervisor(folder, live_services(folder))
            await supervisor.start()
            print(f"hexrun: http://127.0.0.1:{http}  ws://127.0.0.1:{stream}  data in {data}")
            await supervisor.wait_stopped()

    asyncio.run(run())
