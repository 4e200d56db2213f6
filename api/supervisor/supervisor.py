"""Starts services in the order of their needs, keeps them running and stops them in reverse.

May import the clock, the data folder, the runner and the error tree.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
from dataclasses import asdict
from pathlib import Path

from api.clock import now_ms
from api.supervisor.folder import DataFolder
from api.supervisor.runner import Runner
from api.supervisor.service import Service, ServiceStatus, in_order

DATA_VARIABLE = "HEXRUN_DATA"
STATUS_NAME = "status.json"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

_log = logging.getLogger("hexrun.supervisor")


class Supervisor:
    """Runs `services` on `folder` from `start` to `stop`.

    Use it from the main thread: a child's life is tied to the thread that started it. Services
    that do not wait for one another start together. When one dies it alone is restarted; those
    after it are expected to reconnect. `handle_signals` makes SIGTERM and SIGINT stop it.

    Raises:
        InvalidValue: a name is used twice or unknown, or services wait for each other.
    """

    def __init__(
        self, folder: DataFolder, services: list[Service], *, handle_signals: bool = True
    ) -> None:
        self._folder = folder
        self._services = in_order(services)
        self._handle_signals = handle_signals
        self._runners: dict[str, Runner] = {}
        self._stopping: asyncio.Task[None] | None = None
        self._stopped = asyncio.Event()
        self._since_ms = now_ms()

    @property
    def status_file(self) -> Path:
        """Where the status is written on each change: `run/status.json` in the data folder."""
        return self._folder.run / STATUS_NAME

    async def start(self) -> None:
        """Start all services; returns when each has been ready.

        Raises:
            StartupError: one did not come up (the message ends with its last log lines), or a
                signal or `stop` came first. All services are stopped by then.
        """
        if self._handle_signals:
            for number in STOP_SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        for service in self._services:
            self._runners[service.name] = Runner(
                service,
                data=self._folder.path,
                logs=self._folder.logs,
                environment=self._environment,
                changed=self._write_status,
            )
        for runner in self._runners.values():
            runner.start([self._runners[name] for name in runner.service.after])
        try:
            await asyncio.gather(*(runner.came_up for runner in self._runners.values()))
        except BaseException:
            await self.stop()
            raise

    async def wait_stopped(self) -> None:
        """Wait until everything is stopped, by a signal or by `stop`."""
        await self._stopped.wait()

    async def stop(self) -> None:
        """Stop all services, each before those it came after. May be called at any time, twice."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopping)

    def status(self) -> tuple[ServiceStatus, ...]:
        """How each service is, in the order of starting."""
        return tuple(runner.status for runner in self._runners.values())

    async def _stop(self) -> None:
        stops: dict[str, asyncio.Task[None]] = {}
        for service in reversed(self._services):
            later = [other.name for other in self._services if service.name in other.after]
            if service.name in self._runners:
                before = [stops[name] for name in later]
                stops[service.name] = asyncio.create_task(
                    _stop_after(self._runners[service.name], before)
                )
        await asyncio.gather(*stops.values())
        if self._handle_signals:
            for number in STOP_SIGNALS:
                asyncio.get_running_loop().remove_signal_handler(number)
        self._stopped.set()

    def _on_signal(self, number: signal.Signals) -> None:
        _log.info("%s: stopping", number.name)
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop())

    def _environment(self) -> dict[str, str]:
        servers = [service.server for service in self._services if service.server is not None]
        urls = {server.variable: server.url for server in servers}
        return {**os.environ, **urls, DATA_VARIABLE: str(self._folder.path)}

    def _write_status(self) -> None:
        status = {
            "pid": os.getpid(),
            "since_ms": self._since_ms,
            "sockets": str(self._folder.sockets),
            "services": [asdict(one) for one in self.status()],
        }
        partial = self.status_file.with_suffix(".partial")
        partial.write_text(json.dumps(status, indent=1) + "\n")
        partial.replace(self.status_file)


async def _stop_after(runner: Runner, before: list[asyncio.Task[None]]) -> None:
    if before:
        await asyncio.wait(before)
    await runner.stop()
