"""The embedded servers answer, survive crashes, run as any OS user, and outlive nobody."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from api.supervisor import (
    DataFolder,
    ServerUrls,
    Service,
    Supervisor,
    open_servers,
    programs,
    runner,
    server_services,
)
from api.supervisor.process import Account
from api.supervisor.programs import INSTALLATION, PACKAGE, can_reach, postgres_account
from geo.errors import StartupError

REPOSITORY = Path(__file__).parents[3]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the other tests run as such a user")

ROLE = """
import subprocess, sys, time
from api.supervisor import announce_ready, leashed
subprocess.Popen(leashed(["sleep", "600"]))
announce_ready()
time.sleep(600)
"""
EVERYTHING = """
import asyncio, sys
from pathlib import Path
from api.supervisor import DataFolder, Service, Supervisor, server_services
async def main():
    with DataFolder(Path(sys.argv[1])) as folder:
        argv = (sys.executable, "-c", sys.argv[2])
        role = Service("role", argv, announces=True, after=("postgres",))
        supervisor = Supervisor(folder, [*server_services(folder), role])
        await supervisor.start()
        print(next(s.server.url for s in server_services(folder)), flush=True)
        await supervisor.wait_stopped()
asyncio.run(main())
"""


def dsn(url: str) -> str:
    return url.replace("+asyncpg", "", 1)


async def answer(urls: ServerUrls) -> None:
    """Both servers serve, by the clients the project uses."""
    engine = create_async_engine(urls.postgres)
    async with engine.connect() as connection:
        row = (await connection.execute(text("SELECT current_database(), current_user"))).one()
        assert tuple(row) == ("hexrun", "hexrun")
    await engine.dispose()
    client = redis.asyncio.from_url(urls.redis)
    assert await client.set("k", "v")
    assert await client.get("k") == b"v"
    await client.aclose()


async def test_both_start_answer_and_stop(
    open_path: Path,
    descendants: Callable[[int], set[int]],
    all_gone: Callable[..., Awaitable[None]],
) -> None:
    others = descendants(os.getpid())  # a test session has servers of its own
    async with open_servers(open_path / "data") as urls:
        await answer(urls)
        below = descendants(os.getpid()) - others
        assert len(below) > 5
        connection = await asyncpg.connect(dsn(urls.postgres))
        shown = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("synchronous_commit", "fsync", "listen_addresses", "server_encoding")
        }
        await connection.close()
        assert shown == {
            "synchronous_commit": "on",
            "fsync": "on",
            "listen_addresses": "",
            "server_encoding": "UTF8",
        }
    await all_gone(below, 1)
    assert not list((open_path / "data" / "valkey").iterdir())


async def test_nothing_outlives_a_killed_supervisor_and_its_data_come_back(
    open_path: Path,
    environment: dict[str, str],
    descendants: Callable[[int], set[int]],
    all_gone: Callable[..., Awaitable[None]],
) -> None:
    data = open_path / "data"
    pid_file = data / "postgres" / "data" / "postmaster.pid"
    line = [sys.executable, "-c", EVERYTHING, str(data), ROLE]
    with subprocess.Popen(line, stdout=subprocess.PIPE, env=environment) as supervisor:
        assert supervisor.stdout is not None
        url = supervisor.stdout.readline().decode().strip()
        connection = await asyncpg.connect(dsn(url))
        await connection.execute("CREATE TABLE kept (id int)")
        await connection.execute("INSERT INTO kept VALUES (7)")
        busy = asyncio.create_task(
            connection.execute("SELECT count(*) FROM generate_series(1, 10000000000)")
        )
        await asyncio.sleep(0.2)
        below = descendants(supervisor.pid)
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in below}
        assert {"postgres", "valkey-server", "sleep"} <= names
        recorded = pid_file.read_text().split("\n", 1)
        supervisor.kill()
        await all_gone(below, 8)
    with pytest.raises((asyncpg.PostgresError, OSError)):
        await busy

    # The number of the dead server has meanwhile gone to another process of the same user.
    account = postgres_account()
    identity = {} if account is None else {"user": account.uid, "group": account.gid}
    with subprocess.Popen(["sleep", "600"], **identity) as other:
        try:
            pid_file.write_text(f"{other.pid}\n{recorded[1]}")
            async with open_servers(data) as urls:
                connection = await asyncpg.connect(dsn(urls.postgres))
                assert await connection.fetchval("SELECT id FROM kept") == 7
                await connection.close()
            assert other.poll() is None
        finally:
            other.kill()


async def test_a_server_that_dies_comes_back(open_path: Path) -> None:
    with DataFolder(open_path / "data") as folder:
        services = server_services(folder)
        supervisor = Supervisor(folder, services, handle_signals=False)
        await supervisor.start()
        servers = [service.server for service in services]
        urls = ServerUrls(*(server.url for server in servers if server is not None))
        connection = await asyncpg.connect(dsn(urls.postgres))
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS id")
        for status in supervisor.status():
            assert status.pid is not None
            os.kill(status.pid, signal.SIGKILL)
        async with asyncio.timeout(20):
            while [(s.state, s.restarts) for s in supervisor.status()] != [("ready", 1)] * 2:
                await asyncio.sleep(0.02)
        await answer(urls)
        connection = await asyncpg.connect(dsn(urls.postgres))
        assert await connection.fetchval("SELECT id FROM kept") == 7
        await connection.close()
        await supervisor.stop()


async def test_a_long_folder(tmp_path: Path) -> None:
    data = tmp_path / ("l" * 100) / ("m" * 100)
    async with open_servers(data) as urls:
        await answer(urls)


async def test_files_of_another_version_are_refused(open_path: Path) -> None:
    data = open_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("17\n")
    with pytest.raises(StartupError, match=r"written by PostgreSQL 17, the programs are 18"):
        async with open_servers(open_path):
            pass


def linked(source: Path, target: Path) -> None:
    """A copy of a folder that costs nothing where hard links do."""

    def link(here: str, there: str) -> None:
        try:
            os.link(here, there)
        except OSError:
            shutil.copy2(here, there)

    skip = shutil.ignore_patterns("__pycache__", ".git", ".venv", "node_modules", "test")
    shutil.copytree(source, target, copy_function=link, ignore=skip, symlinks=True)


@pytest.fixture
def closed_programs(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """PostgreSQL's package under a folder that only root may pass, as in root's home."""
    package = programs._package()
    closed = open_path / "closed"  # short, so that only its mode is in the way
    closed.mkdir(mode=0o700)
    linked(package / INSTALLATION, closed / PACKAGE / INSTALLATION)
    libraries = package.with_name(PACKAGE + ".libs")
    if libraries.exists():
        linked(libraries, closed / libraries.name)
    (closed / PACKAGE / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(closed))
    return closed


@needs_root
async def test_root_with_programs_out_of_reach(open_path: Path, closed_programs: Path) -> None:
    async with open_servers(open_path / "data") as urls:
        await answer(urls)
    assert list((open_path / "data" / "programs").glob(f"*/{PACKAGE}/{INSTALLATION}/bin/postgres"))


@needs_root
async def test_root_with_data_and_programs_out_of_reach(
    open_path: Path, closed_programs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "SHARED_PROGRAMS", open_path / "shared")
    data = closed_programs / "data"
    account = postgres_account()
    for _ in range(2):
        async with open_servers(data) as urls:
            await answer(urls)
            assert not can_reach(account, data)
    assert (data / "postgres" / "data" / "PG_VERSION").exists()
    assert list((open_path / "shared").iterdir())


@needs_root
def test_as_an_ordinary_user(open_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    account = Account("nobody", nobody.pw_uid, nobody.pw_gid)

    def within_reach(path: Path, name: str) -> Path:
        if os.stat(path).st_mode & 0o005 == 0o005 and can_reach(account, path / "."):
            return path
        linked(path, open_path / name)
        return open_path / name

    prefix = within_reach(Path(sys.base_prefix), "python")
    packages = within_reach(Path(sysconfig.get_path("purelib")), "packages")
    repository = within_reach(REPOSITORY, "hexrun")
    data = open_path / "data"
    data.mkdir()
    os.chown(data, account.uid, account.gid)
    code = """
import asyncio, os, sys
from pathlib import Path
from api.supervisor import open_servers
import asyncpg, redis.asyncio
async def main():
    async with open_servers(Path(sys.argv[1])) as urls:
        connection = await asyncpg.connect(urls.postgres.replace("+asyncpg", "", 1))
        client = redis.asyncio.from_url(urls.redis)
        print(os.geteuid(), await connection.fetchval("SELECT 6 * 7"), await client.ping())
        await connection.close()
        await client.aclose()
asyncio.run(main())
"""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    done = subprocess.run(
        [str(prefix / "bin" / version), "-c", code, str(data)],
        user=account.uid,
        group=account.gid,
        extra_groups=(),
        cwd="/",
        env={
            "PYTHONPATH": f"{repository}:{packages}",
            "LD_LIBRARY_PATH": str(prefix / "lib"),
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.split() == [str(account.uid), "42", "True"], done.stderr
    assert (data / "postgres" / "data").stat().st_uid == account.uid


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HEXRUN_POSTGRES_URL", "postgresql+asyncpg://u:secret@127.0.0.1:1/d"),
        ("HEXRUN_POSTGRES_URL", "not an address, secret"),
        ("HEXRUN_POSTGRES_URL", "postgresql+nodriver://u:secret@127.0.0.1:1/d"),
        ("HEXRUN_REDIS_URL", "redis://:secret@127.0.0.1:1/0"),
        ("HEXRUN_REDIS_URL", "secret-without-a-scheme"),
    ],
)
async def test_a_named_server_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, url: str
) -> None:
    monkeypatch.setattr(runner, "EXTERNAL_LIMIT_S", 0.3)
    monkeypatch.setenv(variable, url)
    with DataFolder(tmp_path) as folder:
        services = [one for one in server_services(folder) if one.server and one.server.external]
        assert len(services) == 1
        with pytest.raises(StartupError, match=f"{variable} is set, and no server") as caught:
            await Supervisor(folder, services, handle_signals=False).start()
    assert "secret@" not in str(caught.value)


async def test_named_servers_are_used_as_they_are(
    servers: ServerUrls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEXRUN_POSTGRES_URL", servers.postgres)
    monkeypatch.setenv("HEXRUN_REDIS_URL", servers.redis)
    async with open_servers(tmp_path / "data") as urls:
        assert urls == servers
        await answer(urls)
        status = json.loads((tmp_path / "data" / "run" / "status.json").read_text())
        assert [one["state"] for one in status["services"]] == ["external", "external"]
    assert not (tmp_path / "data" / "postgres" / "data").exists()


async def test_a_role_is_told_where_everything_is(servers: ServerUrls, tmp_path: Path) -> None:
    told = tmp_path / "told"
    variables = "$HEXRUN_POSTGRES_URL $HEXRUN_REDIS_URL $HEXRUN_DATA"
    line = f'echo "{variables} {{data}}" > {told}; exec sleep 9'
    with DataFolder(tmp_path / "data") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HEXRUN_POSTGRES_URL", servers.postgres)
        patch.setenv("HEXRUN_REDIS_URL", servers.redis)

        async def written() -> bool:
            return told.exists() and told.read_text() != ""

        role = Service("role", ("/bin/sh", "-c", line), after=("postgres", "valkey"), ready=written)
        supervisor = Supervisor(folder, [*server_services(folder), role], handle_signals=False)
        await supervisor.start()
        await supervisor.stop()
        data = str(folder.path)
    assert told.read_text().split() == [servers.postgres, servers.redis, data, data]


async def test_each_test_gets_empty_databases(database_url: str, redis_url: str) -> None:
    connection = await asyncpg.connect(dsn(database_url))
    tables = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
    assert await connection.fetchval(tables) == 0
    await connection.close()
    client = redis.asyncio.from_url(redis_url)
    assert await client.dbsize() == 0
    await client.set("left", "over")
    await client.aclose()
