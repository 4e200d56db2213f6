"""The live system of one machine under the supervisor: `hexrun up`, and the demo's services."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from api.gateway.server import STREAM_PATH
from api.keep import Keep
from api.logs import warn_on_screen
from api.settings import HTTP_PORT, STREAM_PORT, read_city, read_port, remember_city
from api.supervisor import DataFolder, Service, Supervisor, server_services
from api.supervisor.sweep import keep_files
from geo.errors import InvalidValue, StartupError

MIGRATED = "migrate"
PROCESSES_VARIABLE = "HEXRUN_PROCESSES"
PROCESSES_MAX = 32
SPARES_VARIABLE = "HEXRUN_SPARES"
DOORS = ("gateway", "http")  # what clients wait for when it dies
STATUS_PORT_VARIABLE = "HEXRUN_STATUS_PORT"
ROLES_IN_ORDER = ("sequencer", "dispatcher", "gateway", "http", "webhooks")


def live_services(
    folder: DataFolder, environ: Mapping[str, str] = os.environ, *, spares: bool = False
) -> list[Service]:
    """PostgreSQL, Valkey, the migration, and every role, each after what it needs.

    As many processes a role as `HEXRUN_PROCESSES` says. A port named by `HEXRUN_STATUS_PORT` is
    the first role's, and each that follows has the next. With `spares` each door has a process
    that waits to take its place.
    """
    migrate = replace(Service.role(MIGRATED), restart="on-failure")
    after = ("postgres", "valkey", MIGRATED)
    status = read_port(environ, STATUS_PORT_VARIABLE, 0)
    roles: list[Service] = []
    for role, count in read_processes(environ).items():
        for number in range(count):
            name = role if number == 0 else f"{role}-{number + 1}"
            env = {STATUS_PORT_VARIABLE: str(status + len(roles))} if status else {}
            spare = spares and role in DOORS
            roles.append(Service.role(role, after=after, name=name, env=env, spare=spare))
    return [*server_services(folder), migrate, *roles]


def read_spares(environ: Mapping[str, str]) -> bool:
    """Whether doors have spares: yes, unless `HEXRUN_SPARES` is 0.

    Raises:
        InvalidValue: it is neither 0 nor 1.
    """
    given = environ.get(SPARES_VARIABLE) or "1"
    if given not in ("0", "1"):
        raise InvalidValue(SPARES_VARIABLE, given, "0 or 1")
    return given == "1"


def read_processes(environ: Mapping[str, str]) -> dict[str, int]:
    """How many processes each role has under the supervisor: `http=2,gateway=2`, by default one.

    Raises:
        InvalidValue: an unknown role, or not 1 to PROCESSES_MAX; names the variable.
    """
    counts = dict.fromkeys(ROLES_IN_ORDER, 1)
    given = environ.get(PROCESSES_VARIABLE) or ""
    for part in given.split(",") if given else ():
        role, _, count = part.strip().partition("=")
        good = count.isascii() and count.isdigit() and 1 <= int(count) <= PROCESSES_MAX
        if role not in counts or not good:
            expected = f"role=1 to {PROCESSES_MAX} with , between, of " + ", ".join(ROLES_IN_ORDER)
            raise InvalidValue(PROCESSES_VARIABLE, given, expected)
        counts[role] = int(count)
    return counts


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


def up(data: Path) -> None:
    """Runs the live system on the folder until a signal."""
    warn_on_screen()

    async def run() -> None:
        read_city(os.environ)  # refused before anything is made
        keep = Keep.from_environment(os.environ)
        http, stream = set_ports()
        with DataFolder(data) as folder:
            city = remember_city(os.environ, folder.path).name
            services = live_services(folder, spares=read_spares(os.environ))
            supervisor = Supervisor(folder, services)
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
