"""One process of the live system each, as the supervisor or an operator's own unit starts it.

Each module is a role, with all that it imports: `run(settings, stop, ready)` works until `stop` is
set and sets `ready` once it serves. A process reads the module of its role and no other.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import cast

import structlog

from api.logs import set_up_logs
from api.settings import Settings
from api.supervisor.process import announce_ready, is_spare, wait_for_turn
from api.traces import set_up_traces
from geo.datum import warm_up
from geo.errors import HexrunError, UnknownName

log = structlog.get_logger(__name__)

STARTED_S = 5.0
ROLES = ("migrate", "dispatcher", "gateway", "http", "sequencer", "webhooks")
Role = Callable[[Settings, asyncio.Event, asyncio.Event], Awaitable[None]]


def load_role(name: str) -> Role:
    """The role's `run`, with all that it needs imported.

    Raises:
        UnknownName: no role is called that.
    """
    if name not in ROLES:
        raise UnknownName("role", name, "one of " + ", ".join(sorted([*ROLES, "bots"])))
    return cast(Role, import_module(f"{__name__}.{name}").run)


def run_role(name: str) -> None:
    """Runs one role until SIGTERM or SIGINT; says so to the supervisor once it serves.

    A spare first waits, all read and warm, until it is needed. Ends with code 2 for an error of
    our own tree and 1 for any other; each is a line of its log.
    """
    # What is read at a start stays: looking through it for garbage takes a fifth of the time.
    gc.disable()
    set_up_logs(name)
    try:
        role = load_role(name)
        if is_spare():
            warm_up()
            wait_for_turn()
        set_up_traces(name)
        settings = Settings.from_environment()
        run_until_signal(lambda stop, ready: role(settings, stop, ready))
    except HexrunError as error:
        log.error("role_ended", error=str(error))
        sys.exit(2)
    except Exception:
        log.exception("role_failed")
        sys.exit(1)


def run_bots(scenario: str, seed: int) -> None:
    """Runs the bots of a scenario against the live system of the environment."""
    from api.cli.bots import Bots
    from sim.scenario import load_scenario

    set_up_logs("bots")
    settings = Settings.from_environment()
    town = load_scenario(scenario)

    async def work(stop: asyncio.Event, ready: asyncio.Event) -> None:
        await Bots(settings, town, seed).run(stop, ready)

    run_until_signal(work)


def run_until_signal(work: Callable[[asyncio.Event, asyncio.Event], Awaitable[None]]) -> None:
    """Runs `work(stop, ready)` on uvloop; a signal sets `stop`, a set `ready` is announced."""
    import uvloop

    async def run() -> None:
        stop, ready = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.call_later(STARTED_S, _collect_garbage)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

        async def announce() -> None:
            await ready.wait()
            announce_ready()

        announcing = asyncio.create_task(announce())
        try:
            await work(stop, ready)
        finally:
            if ready.is_set():
                await announcing
            announcing.cancel()

    uvloop.run(run())


def _collect_garbage() -> None:
    """From now on, and without looking through what the start has read."""
    gc.freeze()
    gc.enable()
