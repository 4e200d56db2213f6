"""Keeps every process of one machine running, the two embedded servers among them.

| module | holds |
|---|---|
| `folder` | the data folder: layout, lock, short socket paths |
| `leash` | the program before each child that ties its life to its parent's |
| `process` | one child: leashed, logged, told when ready, surely ended |
| `programs` | where the PostgreSQL programs are and which OS user runs them |
| `leftovers` | ends what a killed supervisor's PostgreSQL left running |
| `embedded` | PostgreSQL and Valkey, brought along or named by a variable |
| `service` | what to run, in which order; what is told about it |
| `runner` | one service over all its lives: ready, healthy, restarted with back-off, stopped |
| `supervisor` | all of them together |
| `servers` | just PostgreSQL and Valkey; `python -m api.supervisor FOLDER` runs them by hand |

    async with open_servers(Path("data")) as urls: ...

    with DataFolder(Path("data")) as folder:
        supervisor = Supervisor(folder, [*server_services(folder), Service.role("gateway")])
        await supervisor.start()
        await supervisor.wait_stopped()

Where `HEXRUN_POSTGRES_URL` or `HEXRUN_REDIS_URL` is set, that server is used and none is started.
A role calls `announce_ready()` when it serves, and starts processes of its own behind
`leashed(argv)`, or has them call `tie_to_parent(parent_pid)` first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from api.supervisor.embedded import EmbeddedPostgres, EmbeddedValkey, Server, ServerUrls
    from api.supervisor.folder import DataFolder
    from api.supervisor.leash import tie_to_parent
    from api.supervisor.process import Account, Child, announce_ready, leashed
    from api.supervisor.programs import postgres_account, postgres_programs
    from api.supervisor.running import no_postgres, running_postgres
    from api.supervisor.servers import open_servers, server_services
    from api.supervisor.service import Service, ServiceStatus
    from api.supervisor.supervisor import Supervisor

# Read when they are asked for: a role, and a solver, takes one small module of this package, and
# must not wait at each start for the drivers of databases that its supervisor speaks with.
_WHERE = {
    "EmbeddedPostgres": "embedded",
    "EmbeddedValkey": "embedded",
    "Server": "embedded",
    "ServerUrls": "embedded",
    "DataFolder": "folder",
    "tie_to_parent": "leash",
    "Account": "process",
    "Child": "process",
    "announce_ready": "process",
    "leashed": "process",
    "postgres_account": "programs",
    "postgres_programs": "programs",
    "no_postgres": "running",
    "running_postgres": "running",
    "open_servers": "servers",
    "server_services": "servers",
    "Service": "service",
    "ServiceStatus": "service",
    "Supervisor": "supervisor",
}

__all__ = [
    "Account",
    "Child",
    "DataFolder",
    "EmbeddedPostgres",
    "EmbeddedValkey",
    "Server",
    "ServerUrls",
    "Service",
    "ServiceStatus",
    "Supervisor",
    "announce_ready",
    "leashed",
    "no_postgres",
    "open_servers",
    "postgres_account",
    "postgres_programs",
    "running_postgres",
    "server_services",
    "tie_to_parent",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"{__name__} has no {name}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
