"""The process that breaks things: `python -m bench.chaos.faults CONFIG`.

It finds processes by the supervisor's status file and by /proc, sends them signals, and sets the
levers. Each fault is logged with its first and last instant; at the end everything is at rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from bench.chaos.levers import Levers
from bench.chaos.logs import Log, now_ms
from bench.chaos.schedule import TWINS, Fault, schedule

DONE, PROGRESS = "faults_done", "progress"
# Faults go on when the load does not: after so long, of a load that is as much as the system takes.
PATIENCE_S = 20.0
LOOK_S = 0.05


class Faults:
    """Carries faults out, several at once where the schedule has it so."""

    def __init__(
        self, data: Path, levers: Levers, redis_url: str, log: Log, patience_s: float = PATIENCE_S
    ) -> None:
        self._data, self._levers, self._log = data, levers, log
        self._redis_url, self._patience_s = redis_url, patience_s
        self._stopped: set[int] = set()

    async def run(self, faults: list[Fault]) -> None:
        """The whole schedule, each when so much of the load is placed, and then rest."""
        tasks = []
        try:
            for fault in faults:
                await self._due(fault)
                tasks.append(asyncio.create_task(self._carry_out(fault)))
            await asyncio.gather(*tasks)
        finally:
            for pid in self._stopped:
                _signal(pid, signal.SIGCONT)

    async def _due(self, fault: Fault) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + self._patience_s
        while loop.time() < until_s and float(self._levers.get(PROGRESS, "0")) < fault.at:
            await asyncio.sleep(LOOK_S)

    async def _carry_out(self, fault: Fault) -> None:
        begins_ms = now_ms()
        try:
            done = await _HOW[fault.verb](self, fault)
        except (OSError, RedisError, LookupError) as error:
            done = f"not done: {error!r}"
        self._log.write(
            "fault",
            kind=fault.kind,
            verb=fault.verb,
            target=fault.target,
            twin=fault.twin,
            begins_ms=begins_ms,
            ends_ms=now_ms(),
            done=done,
        )

    # --- processes ----------------------------------------------------------------------------

    async def _kill(self, fault: Fault) -> str:
        how = signal.SIGQUIT if fault.target == "postgres" else signal.SIGKILL
        pid = self._pids(fault)[0]
        _signal(pid, how)
        return f"{how.name} to {pid}"

    async def _pause(self, fault: Fault) -> str:
        pids = self._pids(fault)
        self._stopped.update(pids)
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        await asyncio.sleep(fault.seconds)
        for pid in pids:
            _signal(pid, signal.SIGCONT)
        self._stopped.difference_update(pids)
        return f"{fault.seconds:g} s of {pids}"

    def _pids(self, fault: Fault) -> list[int]:
        """Whom the fault means, never empty; PostgreSQL is all of its processes."""
        if fault.target == "solver":
            return children(self._pid(self._dispatcher(1)))[-1:] or _nobody("no solver")
        if fault.target == "dispatcher":
            return [self._pid(self._dispatcher(fault.twin))]
        if fault.target == "backend":
            return children(self._pid("postgres"))[-1:] or _nobody("no backend")
        if fault.target == "postgres":
            postmaster = self._pid("postgres")
            return [postmaster, *(children(postmaster) if fault.verb == "pause" else ())]
        return [self._pid(service_of(fault))]

    def _pid(self, service: str) -> int:
        status = json.loads((self._data / "run" / "status.json").read_text())
        for one in status["services"]:
            if one["name"] == service and one["pid"] is not None:
                return int(one["pid"])
        raise LookupError(f"{service} has no process now")

    def _dispatcher(self, place: int) -> str:
        """The dispatcher that owns the city (it has a journal open), or with 2 the other one."""
        names = ["dispatcher-1", "dispatcher-2"]
        with contextlib.suppress(LookupError):
            if not holds_journal(self._pid(names[0])):
                names.reverse()
        return names[place - 1]

    # --- levers -------------------------------------------------------------------------------

    async def _proxy(self, fault: Fault) -> str:
        name = f"proxy.{service_of(fault)}"
        position = f"{fault.verb} {fault.amount}" if fault.amount else fault.verb
        self._levers.set(name, position)
        await asyncio.sleep(fault.seconds)
        self._levers.set(name, "open")
        return f"{name}: {position} for {fault.seconds:g} s"

    async def _receivers(self, fault: Fault) -> str:
        self._levers.set("receivers", fault.target)
        await asyncio.sleep(fault.seconds)
        self._levers.set("receivers", "200")
        return f"{fault.target} for {fault.seconds:g} s"

    async def _slow_fsync(self, fault: Fault) -> str:
        services = ["postgres"] if fault.target == "postgres" else ["gateway-1", "gateway-2"]
        for service in services:
            self._levers.set_shim(service, fsync_ms=fault.amount)
        await asyncio.sleep(fault.seconds)
        for service in services:
            self._levers.set_shim(service, fsync_ms=0)
        return f"{fault.amount} ms longer for {fault.seconds:g} s"

    async def _clock_step(self, fault: Fault) -> str:
        service = service_of(fault)
        if fault.target == "dispatcher":
            service = self._dispatcher(fault.twin)
        self._levers.set_shim(service, clock_ms=fault.amount)
        await asyncio.sleep(fault.seconds)
        self._levers.set_shim(service, clock_ms=0)
        return f"{service} by {fault.amount} ms for {fault.seconds:g} s"

    async def _flush(self, fault: Fault) -> str:
        client = Redis.from_url(self._redis_url, socket_timeout=5.0)
        try:
            await client.flushall()
        finally:
            await client.aclose()
        return "FLUSHALL"


_HOW = {
    "kill": Faults._kill,
    "pause": Faults._pause,
    "cut": Faults._proxy,
    "delay": Faults._proxy,
    "stall": Faults._proxy,
    "half_open": Faults._proxy,
    "silence": Faults._proxy,
    "receivers": Faults._receivers,
    "slow_fsync": Faults._slow_fsync,
    "clock_step": Faults._clock_step,
    "flush": Faults._flush,
}


def service_of(fault: Fault) -> str:
    """The service or proxy that the fault names."""
    return f"{fault.target}-{fault.twin}" if fault.target in TWINS else fault.target


def children(pid: int) -> list[int]:
    """Its child processes, oldest first."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(part) for part in (task / "children").read_text().split()]
    return sorted(found)


def holds_journal(pid: int) -> bool:
    """Whether the process has a dispatcher's journal open."""
    with contextlib.suppress(OSError):
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(descriptor).endswith(".journal"):
                    return True
    return False


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _nobody(what: str) -> list[int]:
    raise LookupError(what)


async def main(config: dict[str, Any]) -> None:
    levers = Levers(Path(config["levers"]))
    log = Log(Path(config["logs"]) / "faults.jsonl")
    patience_s = PATIENCE_S
    if config["rate"]:
        gap_s = config["orders"] / config["rate"] / max(1, config["faults"])
        patience_s = max(4.0, 2 * gap_s)
    faults = Faults(Path(config["data"]), levers, config["redis_url"], log, patience_s)
    webhooks = levers.get("webhooks") == "on"
    how = {"webhooks": webhooks, "even": config["even"], "only": config["only"]}
    await faults.run(schedule(config["seed"], config["faults"], **how))
    levers.set(DONE, "yes")


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
