"""What the supervisor runs: the description of one service, and what is told about it.

May import `api.supervisor.embedded` and the error tree.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from api.supervisor.embedded import Server
from api.supervisor.process import GRACE_S
from geo.errors import InvalidValue

Restart = Literal["always", "on-failure", "never"]
State = Literal[
    "waiting",  # for the services it comes after
    "starting",
    "ready",
    "external",  # somebody else runs it, and it answered
    "backing_off",  # it died, or did not come up again, and is started soon
    "ended",  # by itself, with code 0 or asked for, and is not restarted
    "failed",  # by itself, and is not restarted
    "stopping",
    "stopped",
]
Check = Callable[[], Awaitable[bool]]

POSTGRES = "postgres"
VALKEY = "valkey"
DATA = "{data}"
READY_LIMIT_S = 60.0

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True, slots=True)
class Service:
    """One process to keep running: either `argv` or a `server` that knows its own.

    `argv` may hold `{data}`, which becomes the data folder. `env` is added to the supervisor's
    own environment. It starts when all services in `after` are ready. It is ready when it has
    called `announce_ready` (with `announces`) and `ready` gives True; with neither, once started.
    From then on `healthy` (by default `ready`) is asked every few seconds; one that gives False,
    raises or is late three times in a row has the process restarted. With `spare` a second
    process waits, started and warm, to take the place of one that ends: it costs memory, and a
    Python program must call `wait_for_turn`. `ready_limit_s` and
    `grace_s` (from SIGTERM to SIGKILL) are seconds; a server has its own way of stopping.

    Raises:
        InvalidValue: a name, or a combination of fields, that cannot be right.
    """

    name: str
    argv: tuple[str, ...] = ()
    server: Server | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    ready: Check | None = None
    healthy: Check | None = None
    announces: bool = False
    spare: bool = False
    restart: Restart = "always"
    ready_limit_s: float = READY_LIMIT_S
    grace_s: float = GRACE_S

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            expected = "1 to 32 of a-z, 0-9, - and _, as it names files"
            raise InvalidValue("service name", self.name, expected)
        if bool(self.argv) == (self.server is not None):
            raise InvalidValue(f"service {self.name}", self.argv, "either argv or a server")
        if self.server is not None and (self.ready or self.healthy or self.announces or self.spare):
            expected = "none of them: a server brings its own checks, and has no spare"
            raise InvalidValue(
                f"service {self.name}", "ready, healthy, announces or spare", expected
            )

    @classmethod
    def role(
        cls,
        role: str,
        *args: str,
        after: tuple[str, ...] = (POSTGRES, VALKEY),
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        spare: bool = False,
    ) -> Service:
        """A process of hexrun's own: `python -m api.cli role ROLE --data FOLDER ARGS...`.

        It finds the servers in `HEXRUN_POSTGRES_URL` and `HEXRUN_REDIS_URL`, the folder in
        `HEXRUN_DATA`, and calls `announce_ready()` when it serves. `name` (by default the role)
        tells several of one role apart.
        """
        return cls(
            name=name or role,
            argv=(sys.executable, "-m", "api.cli", "role", role, "--data", DATA, *args),
            env=env or {},
            after=after,
            announces=True,
            spare=spare,
        )


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """How one service is; `pid` is None when no process runs, `since_ms` is when `state` began.

    `restarts` counts the starts after the first one; `spare_pid` is the process that waits.
    """

    name: str
    pid: int | None
    state: State
    restarts: int
    since_ms: int
    spare_pid: int | None = None


def in_order(services: list[Service]) -> list[Service]:
    """The services so that each comes after those in its `after`; otherwise as they were given.

    Raises:
        InvalidValue: a name is used twice or unknown, or services wait for each other.
    """
    names = [service.name for service in services]
    for service in services:
        if names.count(service.name) > 1:
            raise InvalidValue("service name", service.name, "a name of its own")
        for other in service.after:
            if other not in names:
                raise InvalidValue(f"service {service.name}: after", other, f"one of {names}")
    ordered: list[Service] = []
    left = list(services)
    while left:
        placed = {service.name for service in ordered}
        free = next((service for service in left if placed.issuperset(service.after)), None)
        if free is None:
            circle = [service.name for service in left]
            raise InvalidValue("services", circle, "no circle of services that wait for each other")
        ordered.append(free)
        left.remove(free)
    return ordered
