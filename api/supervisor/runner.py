"""Keeps one service running: start, wait until ready, watch, restart with back-off, stop.

May import the clock, `service`, `process` and the error tree.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from api.clock import monotonic_s, now_ms
from api.supervisor.process import Child
from api.supervisor.service import DATA, Check, Service, ServiceStatus, State
from geo.errors import StartupError

BACK_OFF_FIRST_S = 0.2
BACK_OFF_MAX_S = 10.0
HEALTHY_AFTER_S = 30.0
ASK_EVERY_S = 0.05
ASK_LIMIT_S = 10.0
HEALTH_EVERY_S = 5.0
HEALTH_FAILURES_MAX = 3
EXTERNAL_LIMIT_S = 10.0
SPARE_AFTER_S = 3.0  # what comes after a start has the processors first

_log = logging.getLogger("hexrun.supervisor")


class BackOff:
    """Seconds to wait before each restart: 0, then 0.2 doubling to 10.

    0 again after 30 s of health. A run that was never ready is not followed at once.
    """

    def __init__(self) -> None:
        self._next_s = 0.0

    def after_run(self, ready_for_s: float) -> float:
        """The wait after a run that was ready for that long; 0 when it never was."""
        if ready_for_s >= HEALTHY_AFTER_S:
            self._next_s = 0.0
        wait_s = self._next_s if ready_for_s > 0.0 else max(self._next_s, BACK_OFF_FIRST_S)
        self._next_s = min(max(2 * wait_s, BACK_OFF_FIRST_S), BACK_OFF_MAX_S)
        return wait_s


class Runner:
    """One service over all its lives. `came_up` completes when it was ready for the first time.

    `environment` gives the variables of a child at the moment of its start; `changed` is called
    after each change of `status`.
    """

    def __init__(
        self,
        service: Service,
        *,
        data: Path,
        logs: Path,
        environment: Callable[[], Mapping[str, str]],
        changed: Callable[[], None],
    ) -> None:
        self.service = service
        self.came_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._data, self._logs = data, logs
        self._environment, self._changed = environment, changed
        self._child: Child | None = None
        self._spare: Child | None = None
        self._task: asyncio.Task[None] | None = None
        self._state: State = "waiting"
        self._restarts = 0
        self._since_ms = now_ms()
        self._problem = "not asked yet"

    @property
    def status(self) -> ServiceStatus:
        """How it is now."""
        return ServiceStatus(
            self.service.name,
            _pid(self._child),
            self._state,
            self._restarts,
            self._since_ms,
            _pid(self._spare),
        )

    def start(self, after: list[Runner]) -> None:
        """Run it once all of `after` came up. `came_up` fails with StartupError if it does not."""
        self._task = asyncio.create_task(self._run(after), name=f"run {self.service.name}")
        self._task.add_done_callback(self._run_ended)

    async def stop(self) -> None:
        """Stop the process and what would restart it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._spare is not None:
            await self._spare.stop()
        if self._state in ("ended", "failed", "external"):
            return
        if self._child is not None and self._child.alive:
            self._set("stopping")
            code = await self._child.stop()
            _log.info("%s stopped with %s", self.service.name, code)
        self._set("stopped")

    def _run_ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if not self.came_up.done():
            self.came_up.set_exception(
                error or StartupError(f"{self.service.name}: stopped before it was ready")
            )
            self.came_up.exception()  # seen, even if nobody waits any more
        elif error is not None:
            _log.error("%s: the supervisor's own fault", self.service.name, exc_info=error)
            self._set("failed")

    async def _run(self, after: list[Runner]) -> None:
        for other in after:
            await asyncio.shield(other.came_up)
        server = self.service.server
        if server is not None and server.external:
            await self._find_external()
            return
        back_off = BackOff()
        while True:
            ready_for_s = 0.0
            try:
                await self._launch()
            except (StartupError, OSError) as error:
                if self._child is not None:
                    await self._child.stop()
                if not self.came_up.done():
                    self._set("failed")
                    raise
                _log.error("%s did not come up again: %s", self.service.name, error)
            else:
                ready_at_s = monotonic_s()
                self._is_up()
                sparing = asyncio.create_task(self._keep_spare()) if self.service.spare else None
                try:
                    code, healthy = await self._watch()
                finally:
                    if sparing is not None:
                        sparing.cancel()
                ready_for_s = monotonic_s() - ready_at_s
                if healthy and not self._wants_restart(code):
                    self._set("failed" if code else "ended")
                    return
            wait_s = back_off.after_run(ready_for_s)
            self._set("backing_off")
            await asyncio.sleep(wait_s)
            self._restarts += 1

    async def _find_external(self) -> None:
        server = self.service.server
        assert server is not None
        self._set("starting")
        try:
            async with asyncio.timeout(EXTERNAL_LIMIT_S):
                while not await server.ready():
                    await asyncio.sleep(10 * ASK_EVERY_S)
        except TimeoutError:
            self._set("failed")
            raise StartupError(
                f"{server.variable} is set, and no server answers there: {server.problem}; "
                "correct it, or unset it to have one started"
            ) from None
        self._set("external")
        self._is_up()

    async def _launch(self) -> None:
        """Start a process and wait until it is ready."""
        self._set("starting")
        service = self.service
        if self._spare is not None and self._spare.alive:
            self._child, self._spare = self._spare, None
            self._child.promote()
        else:
            if service.server is not None:
                await service.server.prepare()
                self._child = service.server.child()
            else:
                self._child = self._make_child()
            self._child.start()
        self._set("starting")
        _log.info("%s started as process %d", service.name, self._child.pid)
        try:
            async with asyncio.timeout(service.ready_limit_s):
                came_up = await self._until_ready(self._child)
        except TimeoutError:
            raise StartupError(
                f"{service.name} was not ready in {service.ready_limit_s:g} s ({self._problem})"
                f"{self._evidence()}"
            ) from None
        if not came_up:
            code = await self._child.wait()
            raise StartupError(
                f"{service.name} ended with {code} before it was ready{self._evidence()}"
            )
        self._set("ready")

    async def _keep_spare(self) -> None:
        """Has a second process wait, for as long as the service runs."""
        while True:
            await asyncio.sleep(SPARE_AFTER_S)
            try:
                if self._spare is None or not self._spare.alive:
                    self._spare = self._make_child(spare=True)
                    self._spare.start()
                    self._changed()
                code = await self._spare.wait()
                _log.warning("the spare of %s ended with %d", self.service.name, code)
            except (StartupError, OSError) as error:
                _log.error("no spare of %s: %s", self.service.name, error)
            self._changed()

    def _make_child(self, *, spare: bool = False) -> Child:
        service = self.service
        env = {**self._environment(), **service.env}
        argv = [part.replace(DATA, str(self._data)) for part in service.argv]
        if shutil.which(argv[0], path=env.get("PATH")) is None:
            raise StartupError(f"{service.name}: no program {argv[0]}")
        return Child(
            service.name,
            argv,
            log=self._logs / f"{service.name}.log",
            env=env,
            stop_steps=((signal.SIGTERM, service.grace_s),),
            announces=service.announces,
            spare=spare,
        )

    async def _until_ready(self, child: Child) -> bool:
        """True once it is ready, False when it ended before."""
        ended = asyncio.ensure_future(child.wait())
        try:
            if child.announced is not None:
                self._problem = "it has not announced itself"
                done: set[asyncio.Future[None] | asyncio.Future[int]] = {child.announced, ended}
                await asyncio.wait(done, return_when=asyncio.FIRST_COMPLETED)
                if not child.announced.done():
                    return False
            check = self.service.server.ready if self.service.server else self.service.ready
            while check is not None and not await self._ask(check):
                await asyncio.wait({ended}, timeout=ASK_EVERY_S)
                if ended.done():
                    return False
            return True
        finally:
            ended.cancel()

    async def _watch(self) -> tuple[int, bool]:
        """Wait for the end of a ready process; its code, and whether it was healthy until then."""
        child, service = self._child, self.service
        assert child is not None
        check = service.server.healthy if service.server else service.healthy or service.ready
        ended = asyncio.ensure_future(child.wait())
        failures = 0
        try:
            while failures < HEALTH_FAILURES_MAX:
                await asyncio.wait({ended}, timeout=None if check is None else HEALTH_EVERY_S)
                if ended.done():
                    code = ended.result()
                    level = logging.WARNING if self._wants_restart(code) or code else logging.DEBUG
                    _log.log(level, "%s ended with %d", service.name, code)
                    return code, True
                if check is not None:
                    failures = 0 if await self._ask(check) else failures + 1
        finally:
            ended.cancel()
        _log.error("%s is not healthy (%s): stopping it", service.name, self._problem)
        return await child.stop() or 0, False

    async def _ask(self, check: Check) -> bool:
        """`check`, where raising and being late mean False."""
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                answer = await check()
        except Exception as error:
            self._problem = str(error) or type(error).__name__
            return False
        server = self.service.server
        self._problem = server.problem if server is not None else "its check says no"
        return answer

    def _is_up(self) -> None:
        if not self.came_up.done():
            self.came_up.set_result(None)

    def _wants_restart(self, code: int) -> bool:
        policy = self.service.restart
        return policy == "always" or (policy == "on-failure" and code != 0)

    def _evidence(self) -> str:
        assert self._child is not None
        return f"; the end of {self._child.log}:\n{self._child.last_lines()}"

    def _set(self, state: State) -> None:
        if state != self._state:
            self._state, self._since_ms = state, now_ms()
        self._changed()


def _pid(child: Child | None) -> int | None:
    return child.pid if child is not None and child.alive else None
