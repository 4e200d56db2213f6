"""The solver as its own warm process: what solves shares no process with sockets.

`SolverProcess` is the dispatcher's end. The snapshot travels in a block of shared memory (a memfd
that dies with its holders), the word "go" and the plan through pipes. A solver that is dead or
later than its deadline is killed and started again; the caller is told and decides greedily.
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

from api.snapshots import Packed, unpack_snapshot
from api.supervisor import tie_to_parent
from dispatch.engine import decide
from dispatch.plan import Plan
from dispatch.policy import Policy
from dispatch.snapshot import Snapshot
from dispatch.warm import warm_up

log = structlog.get_logger()

_ASK = struct.Struct("<QI")  # bytes of the snapshot, bytes of the policy
_ANSWER = struct.Struct("<I")  # bytes of the plan
_FIRST_BLOCK = 1 << 20
START_LIMIT_S = 60.0


class SolverProcess:
    """One solver. `decide` may be called once at a time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._block: mmap.mmap | None = None
        self._fd = -1
        self.restarts = 0

    @property
    def pid(self) -> int:
        """The process number. Call after `start`."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Starts the process and waits until it has compiled and answered once."""
        self._fd = os.memfd_create("hexrun-snapshot")
        self._grow(_FIRST_BLOCK)
        await self._spawn()

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "api.solver",
            str(self._fd),
            str(os.getpid()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._fd,),
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_LIMIT_S):
            await self._process.stdout.readexactly(1)

    def _grow(self, size: int) -> None:
        os.ftruncate(self._fd, size)
        if self._block is not None:
            self._block.close()
        self._block = mmap.mmap(self._fd, size)

    async def decide(self, snapshot: Snapshot, policy: Policy, limit_s: float) -> Plan | None:
        """The plan, or None when the solver died or took longer than `limit_s` seconds."""
        packed = Packed(snapshot)
        assert self._block is not None
        if packed.size > len(self._block):
            self._grow(2 * packed.size)
        view = memoryview(self._block)
        packed.write_to(view)
        view.release()
        knobs = msgspec.msgpack.encode(policy)
        try:
            async with asyncio.timeout(limit_s):
                return await self._ask(packed.size, knobs)
        except (TimeoutError, asyncio.IncompleteReadError, OSError) as error:
            log.warning("solver_failed", error=type(error).__name__, limit_s=limit_s)
            await self._restart()
            return None

    async def _ask(self, size: int, knobs: bytes) -> Plan:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(_ASK.pack(size, len(knobs)) + knobs)
        await process.stdin.drain()
        (length,) = _ANSWER.unpack(await process.stdout.readexactly(_ANSWER.size))
        return msgspec.msgpack.decode(await process.stdout.readexactly(length), type=Plan)

    async def _restart(self) -> None:
        self.restarts += 1
        await self._kill()
        await self._spawn()

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def stop(self) -> None:
        await self._kill()
        if self._block is not None:
            self._block.close()
            os.close(self._fd)
            self._block = None


def serve(fd: int, inlet: BinaryIO, outlet: BinaryIO) -> None:
    """The solver's loop: until the dispatcher closes the pipe."""
    warm_up()
    outlet.write(b"!")
    outlet.flush()
    while head := inlet.read(_ASK.size):
        size, length = _ASK.unpack(head)
        policy = msgspec.msgpack.decode(inlet.read(length), type=Policy)
        # Mapped anew each round: the dispatcher may have grown the block.
        with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as block:
            snapshot = unpack_snapshot(memoryview(block[:]))
        answer = msgspec.msgpack.encode(decide(snapshot, policy))
        outlet.write(_ANSWER.pack(len(answer)) + answer)
        outlet.flush()


def main() -> None:
    fd, parent = int(sys.argv[1]), int(sys.argv[2])
    tie_to_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the dispatcher ends it after its last round
    outlet = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not speak on the plan's pipe
    serve(fd, sys.stdin.buffer, outlet)


if __name__ == "__main__":
    main()
