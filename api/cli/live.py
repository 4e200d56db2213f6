"""The live system of one machine under the supervisor: `hexrun up`, and the demo's services."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from api.gateway.server import STREAM_PATH
from api.keep import Keep
from api.settings import HTTP_PORT, STREAM_PORT, read_city, read_port, remember_city
from api.supervisor import DataFolder, Service, Supervisor, server_services
from api.supervisor.sweep import keep_files
from geo.errors import StartupError

MIGRATED = "migrate"
ROLES_IN_ORDER = ("sequencer", "dispatcher", "gateway", "http", "webhooks")


def live_services(folder: DataFolder) -> list[Service]:
    """PostgreSQL, Valkey, the migration, and every role, each after what it needs."""
    migrate = replace(Service.role(MIGRATED), restart="on-failure")
    after = ("postgres", "valkey", MIGRATED)
    roles = [Service.role(name, after=after) for name in ROLES_IN_ORDER]
    return [*server_services(folder), migrate, *roles]


def free_port(port: int, host: str) -> int | None:
    """`port` (0: any) where nobody listens on it, else None."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return None
        return int(probe.getsockname()[1])


def set_ports(moved: Callable[[int, int], None] | None = None) -> tuple[int, int]:
    """Ports for HTTP and the stream, told to the roles by the environment.

    A default port that is in use is replaced, and `moved` told of both; without `moved`, and where
    the environment names the port, StartupError.
    """
    return (
        _set_port("HEXRUN_HTTP_PORT", HTTP_PORT, moved),
        _set_port("HEXRUN_STREAM_PORT", STREAM_PORT, moved),
    )


def _set_port(variable: str, default: int, moved: Callable[[int, int], None] | None) -> int:
    host = os.environ.get("HEXRUN_HOST") or "127.0.0.1"
    given = os.environ.get(variable)
    wanted = read_port(os.environ, variable, default)
    port = free_port(wanted, host)
    if port is None:
        if given or moved is None:
            raise StartupError(f"port {wanted} of {host} is in use; name another by {variable}")
        port = free_port(0, host)
        if port is None:
            raise StartupError(f"{host} has no free port")
        moved(wanted, port)
    os.environ[variable] = str(port)
    return port


def log_to_stderr() -> None:
    """What the supervisor warns of, marked as ours."""
    logging.basicConfig(format="hexrun: %(message)s", level=logging.WARNING)


def up(data: Path) -> None:
    """Runs the live system on the folder until a signal."""
    log_to_stderr()

    async def run() -> None:
        read_city(os.environ)  # refused before anything is made
        keep = Keep.from_environment(os.environ)
        http, stream = set_ports()
        with DataFolder(data) as folder:
            city = remember_city(os.environ, folder.path).name
            supervisor = Supervisor(folder, live_services(folder))
            print(f"hexrun: starting the city {city} in {data} ...", flush=True)
            await supervisor.start()
            address = f"http://127.0.0.1:{http}"
            socket_address = f"ws://127.0.0.1:{stream}{STREAM_PATH}"
            token = f"$(hexrun token --role operator --sub me --data {data})"
            print(f"hexrun: city {city} is up at {address} and {socket_address}; Ctrl-C to stop")
            print("hexrun: the console's address is printed by")
            print(
                f'  echo "{address}/#token={token}&stream={socket_address}&city={city}"',
                flush=True,
            )
            sweeping = asyncio.create_task(keep_files(folder, keep.files_days))
            await supervisor.wait_stopped()
            sweeping.cancel()

    asyncio.run(run())
