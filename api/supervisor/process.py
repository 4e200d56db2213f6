"""One supervised child process: leashed, logged to a file, told apart when ready, surely ended.

May import `api.supervisor.leash` and the error tree.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from api.supervisor import leash
from geo.errors import StartupError

READY_VARIABLE = "HEXRUN_READY_FD"
TURN_VARIABLE = "HEXRUN_TURN_FD"
LOG_BYTES_MAX = 16 * 1024 * 1024
TAIL_BYTES_MAX = 16 * 1024
POLL_S = 0.05
GRACE_S = 10.0

StopSteps = Sequence[tuple[signal.Signals, float]]


@dataclass(frozen=True, slots=True)
class Account:
    """An operating-system user to run a child as."""

    name: str
    uid: int
    gid: int


def leashed(
    argv: Sequence[str],
    *,
    death_signal: signal.Signals = signal.SIGKILL,
    account: Account | None = None,
) -> list[str]:
    """`argv` behind the leash: started by this process, it gets `death_signal` when this one ends.

    Start the result with `subprocess` from a thread that lives as long as the process. A role
    uses it for its own children, as the supervisor does for the roles. `account` needs root.
    """
    identity = "-" if account is None else f"{account.uid}:{account.gid}"
    program = [sys.executable, "-I", "-S", leash.__file__]
    return [*program, str(int(death_signal)), str(os.getpid()), identity, *argv]


def announce_ready() -> None:
    """Tell the supervisor that this role serves. Does nothing when there is no supervisor.

    The supervisor hands a role the write end of a pipe, its number in `HEXRUN_READY_FD`; the role
    writes the line `ready` and closes it. A pipe needs no polling and leaves nothing stale.
    """
    number = os.environ.pop(READY_VARIABLE, None)
    if number is None or not _is_pipe(int(number)):  # a role's own child inherits the name only
        return
    with os.fdopen(int(number), "wb") as pipe:
        pipe.write(b"ready\n")


def is_spare() -> bool:
    """Whether this process was started to wait until it is needed."""
    return TURN_VARIABLE in os.environ


def wait_for_turn() -> None:
    """What a spare calls once it has read all it needs; returns when it is its turn.

    From then on it logs to the file that it is told. It ends here, with code 0, when its
    supervisor lets go of the pipe instead.
    """
    with os.fdopen(int(os.environ.pop(TURN_VARIABLE)), "rb") as pipe:
        path = pipe.readline().rstrip(b"\n")
    if not path:
        sys.exit(0)
    with open(path, "ab") as log:
        os.dup2(log.fileno(), sys.stdout.fileno())
        os.dup2(log.fileno(), sys.stderr.fileno())


class Child:
    """A process with a leash, a session of its own and a log file.

    `log` gets stdout and stderr, appended; at start it is moved to `<log>.1` when it is over
    16 MiB. `death_signal` is sent when this process dies. `stop_steps` are (signal, seconds to
    wait for it) that `stop` goes through before SIGKILL. With `announces` the child is given the
    pipe of `announce_ready`, and `announced` completes when it has spoken. A `spare` waits in
    `wait_for_turn` until `promote`.

    When the child ends, what is left of its process group is killed while the child itself is
    not reaped yet, so that its number cannot mean another group.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
        death_signal: signal.Signals = signal.SIGKILL,
        stop_steps: StopSteps = ((signal.SIGTERM, GRACE_S),),
        announces: bool = False,
        spare: bool = False,
    ) -> None:
        self.name, self.argv, self.log = name, tuple(argv), log
        self._env = dict(os.environ if env is None else env)
        self._cwd, self._account, self._death_signal = cwd, account, death_signal
        self._stop_steps, self._announces, self._spare = stop_steps, announces, spare
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._pidfd = -1
        self._turn = -1
        self._poll: asyncio.TimerHandle | None = None
        self._ended: asyncio.Future[int] | None = None
        self.announced: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process number, also after its end; None before `start`."""
        return None if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, minus the signal's number when one ended it; None while it runs."""
        return None if self._ended is None or not self._ended.done() else self._ended.result()

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._ended is not None and not self._ended.done()

    def start(self) -> None:
        """Start it. Call inside a running event loop, from a thread that outlives the child.

        Raises:
            StartupError: it was started before, or the operating system refused.
        """
        if self._process is not None:
            raise StartupError(f"{self.name}: a child is started once; make another one")
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        env = {key: self._env[key] for key in self._env.keys() - {READY_VARIABLE, TURN_VARIABLE}}
        reader, writer = os.pipe() if self._announces else (-1, -1)
        turn, self._turn = os.pipe() if self._spare else (-1, -1)
        passed = {READY_VARIABLE: writer, TURN_VARIABLE: turn}
        passed = {name: number for name, number in passed.items() if number >= 0}
        env.update({name: str(number) for name, number in passed.items()})
        try:
            with self._open_log() as output:
                self._process = subprocess.Popen(
                    leashed(self.argv, death_signal=self._death_signal, account=self._account),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=env,
                    cwd=self._cwd,
                    start_new_session=True,
                    pass_fds=tuple(passed.values()),
                )
        except OSError as error:
            if self._announces:
                os.close(reader)
            self._let_go()
            raise StartupError(f"{self.name}: cannot start {self.argv[0]}: {error}") from error
        finally:
            for number in passed.values():
                os.close(number)
        self._watch(loop)
        if self._announces:
            self.announced = loop.create_future()
            loop.add_reader(reader, self._hear, loop, reader)

    def promote(self) -> None:
        """Tell a spare that it is its turn. One that has ended does not hear it."""
        self._spare = False
        self._open_log().close()
        with contextlib.suppress(BrokenPipeError):
            os.write(self._turn, os.fsencode(self.log) + b"\n")
        self._let_go()

    def _open_log(self) -> BinaryIO:
        """For appending. A spare leaves the file where it is: another process writes to it."""
        path = self.log
        if not self._spare and path.exists() and path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_name(path.name + ".1"))
        output = path.open("ab")
        self._log_start = output.tell()
        return output

    def _let_go(self) -> None:
        if self._turn >= 0:
            os.close(self._turn)
            self._turn = -1

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        # A descriptor of the process itself: no thread, no SIGCHLD handler, any event loop.
        assert self._process is not None
        if sys.platform == "linux":
            try:
                self._pidfd = os.pidfd_open(self._process.pid)
            except OSError:  # a kernel older than 5.3, or a sandbox
                self._pidfd = -1
        if self._pidfd >= 0:
            loop.add_reader(self._pidfd, self._bury, loop)
        else:
            self._poll = loop.call_later(POLL_S, self._look, loop)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._process is not None
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, self._process.pid, options) is not None:
            self._bury(loop)
        else:
            self._poll = loop.call_later(POLL_S, self._look, loop)

    def _bury(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._process is not None
        assert self._ended is not None
        if self._pidfd >= 0:
            loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        self._let_go()
        self._signal_group(signal.SIGKILL)
        self._ended.set_result(self._process.wait())

    def _hear(self, loop: asyncio.AbstractEventLoop, reader: int) -> None:
        assert self.announced is not None
        said = os.read(reader, 64)
        loop.remove_reader(reader)
        os.close(reader)
        if said.startswith(b"ready") and not self.announced.done():
            self.announced.set_result(None)

    async def wait(self) -> int:
        """Wait for the end; the exit code, minus the signal's number when one ended it."""
        assert self._ended is not None, "start it first"
        return await asyncio.shield(self._ended)

    async def stop(self) -> int | None:
        """Go through the stop steps, then kill the group; returns when it has ended.

        Returns the exit code, or None when it was never started.
        """
        if self._ended is None:
            return None
        for number, limit_s in self._stop_steps:
            if self._ended.done():
                break
            self._signal(number)
            await asyncio.wait({self._ended}, timeout=limit_s)
        if not self._ended.done():
            self._signal_group(signal.SIGKILL)
        return await self.wait()

    def last_lines(self, count: int = 20) -> str:
        """The last lines that this child logged, without those of the children before it."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - TAIL_BYTES_MAX))
                text = log.read().decode(errors="replace")
        except OSError as error:
            return f"(no log: {error})"
        return "\n".join(text.splitlines()[-count:])

    def _signal(self, number: signal.Signals) -> None:
        # Not reaped before `_ended` is done, so the number is still this process's.
        assert self._process is not None
        _ignoring_gone(lambda pid: os.kill(pid, number), self._process.pid)

    def _signal_group(self, number: signal.Signals) -> None:
        assert self._process is not None
        _ignoring_gone(lambda pid: os.killpg(pid, number), self._process.pid)


def _ignoring_gone(send: Callable[[int], None], pid: int) -> None:
    try:
        send(pid)
    except (ProcessLookupError, PermissionError):
        # PermissionError: only zombies are left in the group (macOS).
        return


def _is_pipe(number: int) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(number).st_mode)
    except OSError:
        return False
