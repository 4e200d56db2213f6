"""The solvers as warm processes of their own: what solves shares no process with sockets.

`SolverPool` is what the cities of a dispatcher process share; `SolverProcess` is the dispatcher's
end of one. The snapshot travels in a block of shared memory (a memfd that dies with its holders),
the word "go" and the plan through pipes. A solver that is dead or later than its deadline is
killed, and started again in the background; until then the caller decides greedily.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import os
import signal
import struct
import sys
from typing import BinaryIO

import msgspec
import structlog

from api.cancelling import end_if_cancelled
from api.logs import set_up_logs
from api.metrics import Mode, degraded
from api.snapshots import Packed, unpack_snapshot
from api.supervisor.leash import tie_to_parent
from dispatch.plan import Plan
from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from geo.errors import HexrunError, StartupError

log = structlog.get_logger()

_ASK = struct.Struct("<QI")  # bytes of the snapshot, bytes of the policy
_ANSWER = struct.Struct("<?I")  # a plan or a refusal, its bytes
_FIRST_BLOCK = 1 << 20
START_LIMIT_S = 60.0
_PAUSE_S, _PAUSE_MAX_S = 0.2, 10.0


class SolverRefused(HexrunError):
    """The solver lives, and says why it makes no plan of this snapshot."""


class SolverProcess:
    """One solver. `decide` may be called once at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._starting: asyncio.Task[None] | None = None
        self._block: mmap.mmap | None = None
        self._fd = -1
        self.restarts = 0
        self.was_late = False
        """The last `decide` that gave None had waited for its whole limit."""

    @property
    def pid(self) -> int | None:
        """The process number; None while there is no solver."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Starts the process and waits until it has compiled and answered once.

        A machine that is too busy for that in START_LIMIT_S gets it later, in the background.
        Raises StartupError when the process dies.
        """
        self._fd = os.memfd_create("hexrun-snapshot")
        self._grow(_FIRST_BLOCK)
        try:
            self._process = await self._spawn()
        except TimeoutError:
            end_if_cancelled()
            degraded(Mode.SOLVER_AWAY, True, limit_s=START_LIMIT_S)
            self._starting = asyncio.create_task(self._start_again())
        except (asyncio.IncompleteReadError, OSError) as error:
            raise StartupError(f"the solver does not start: {error!r}") from error

    async def decide(self, snapshot: Snapshot, policy: Policy, limit_s: float) -> Plan | None:
        """The plan; None at once while there is no solver, or when it died or took longer than
        `limit_s` seconds: then a new one is started in the background.

        Raises SolverRefused for a snapshot that breaks its own rules.
        """
        if self._process is None:
            return None
        packed = Packed(snapshot)
        assert self._block is not None
        if packed.size > len(self._block):
            self._grow(2 * packed.size)
        self.was_late = False
        view = memoryview(self._block)
        packed.write_to(view)
        view.release()
        try:
            async with asyncio.timeout(limit_s):
                return await self._ask(self._process, packed.size, msgspec.msgpack.encode(policy))
        except (TimeoutError, asyncio.IncompleteReadError, OSError, RuntimeError) as error:
            # RuntimeError: uvloop's pipe of a solver that died between two rounds.
            self.was_late = isinstance(error, TimeoutError)
            log.warning("solver_failed", error=type(error).__name__, limit_s=limit_s)
            process, self._process = self._process, None
            await _kill(process)
            self._starting = asyncio.create_task(self._start_again())
            return None

    async def stop(self) -> None:
        """Ends the process, or its start."""
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        if self._process is not None:
            await _kill(self._process)
            self._process = None
        if self._block is not None:
            self._block.close()
            os.close(self._fd)
            self._block = None

    async def _start_again(self) -> None:
        """Until one comes up, with growing pauses."""
        pause_s = _PAUSE_S
        while True:
            self.restarts += 1
            try:
                self._process = await self._spawn()
            except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
                log.error("solver_not_started", error=repr(error), again_in_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            else:
                degraded(Mode.SOLVER_AWAY, False)
                return

    async def _spawn(self) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api.solver",
            str(self._fd),
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._fd,),
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_LIMIT_S):
                await process.stdout.readexactly(1)
        except BaseException:
            await _kill(process)
            raise
        return process

    def _grow(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        if self._block is not None:
            self._block.close()
        self._block = mmap.mmap(self._fd, size)

    @staticmethod
    async def _ask(process: asyncio.subprocess.Process, size: int, knobs: bytes) -> Plan:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdin.is_closing():
            # It died since the last round. To write would raise too, on uvloop a RuntimeError.
            raise BrokenPipeError("the solver's pipe is closed")
        process.stdin.write(_ASK.pack(size, len(knobs)) + knobs)
        await process.stdin.drain()
        good, length = _ANSWER.unpack(await process.stdout.readexactly(_ANSWER.size))
        answer = await process.stdout.readexactly(length)
        if not good:
            raise SolverRefused(answer.decode())
        return msgspec.msgpack.decode(answer, type=Plan)


class SolverPool:
    """A few solvers for any number of callers; a caller gets the next one that is free."""

    def __init__(self, size: int) -> None:
        self._all = [SolverProcess() for _ in range(size)]
        self._free: asyncio.Queue[SolverProcess] = asyncio.Queue()
        self._asked: set[asyncio.Task[Plan | None]] = set()

    @property
    def pids(self) -> list[int]:
        """The process numbers of the solvers that live."""
        return [s.pid for s in self._all if s.pid is not None]

    async def start(self) -> None:
        """See `SolverProcess.start`."""
        await asyncio.gather(*(solver.start() for solver in self._all))
        for solver in self._all:
            self._free.put_nowait(solver)

    async def decide(self, snapshot: Snapshot, policy: Policy, limit_s: float) -> Plan | None:
        """As `SolverProcess.decide`; None too when no solver is free within `limit_s` seconds."""
        if not self.pids:
            return None
        try:
            async with asyncio.timeout(limit_s):
                solver = await self._free.get()
        except TimeoutError:
            end_if_cancelled()
            log.warning("no_solver_free", limit_s=limit_s)
            return None
        # Shielded: a solver whose caller is gone has to give its answer before it is asked again.
        asking = asyncio.create_task(self._ask(solver, snapshot, policy, limit_s))
        self._asked.add(asking)
        asking.add_done_callback(self._asked.discard)
        return await asyncio.shield(asking)

    async def stop(self) -> None:
        """Ends all of them."""
        for asking in self._asked:
            asking.cancel()
        await asyncio.gather(*self._asked, return_exceptions=True)
        await asyncio.gather(*(solver.stop() for solver in self._all))

    async def _ask(
        self, solver: SolverProcess, snapshot: Snapshot, policy: Policy, limit_s: float
    ) -> Plan | None:
        try:
            plan = await solver.decide(snapshot, policy, limit_s)
        finally:
            self._free.put_nowait(solver)
        if plan is not None:
            degraded(Mode.SOLVER_LATE, False)
        elif solver.was_late:
            degraded(Mode.SOLVER_LATE, True, limit_s=limit_s)
        degraded(Mode.SOLVER_AWAY, not self.pids)
        return plan


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()


def serve(fd: int, inlet: BinaryIO, outlet: BinaryIO) -> None:
    """The solver's loop: until the dispatcher closes the pipe."""
    # Here, since the dispatcher's end of the pipe does without the compiler.
    from dispatch.engine import decide
    from dispatch.warm import warm_up

    warm_up()
    outlet.write(b"!")
    outlet.flush()
    while head := inlet.read(_ASK.size):
        size, length = _ASK.unpack(head)
        policy = msgspec.msgpack.decode(inlet.read(length), type=Policy)
        # Mapped anew each round: the dispatcher may have grown the block.
        with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as block:
            snapshot = unpack_snapshot(memoryview(block[:]))
        try:
            good, answer = True, msgspec.msgpack.encode(decide(snapshot, policy))
        except HexrunError as error:
            good, answer = False, str(error).encode()
        outlet.write(_ANSWER.pack(good, len(answer)) + answer)
        outlet.flush()


def main() -> None:
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    tie_to_parent(parent)
    set_up_logs("solver")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the dispatcher ends it after its last round
    outlet = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not speak on the plan's pipe
    serve(fd, sys.stdin.buffer, outlet)


if __name__ == "__main__":
    main()
