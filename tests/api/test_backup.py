"""A running system is backed up, and what is restored goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from api.backup import backup, restore
from api.clock import now_ms
from api.messages import FixRow
from api.segments import Record, SegmentWriter, iterate
from api.sequencer import run_sequencer
from api.store import Positioned, Store, migrate
from api.store.migrate import MIGRATIONS, asyncpg_url
from api.store.restoring import begin_again
from api.supervisor import open_servers
from dispatch.commands import Accept, Offer
from dispatch.jobs.delivery import JOB
from dispatch.model import Order, OrderState, Place, RouteStop
from dispatch.registry import OrderForm, StopForm
from geo.errors import Conflict, InvalidValue, MissingFile

NOW_MS = now_ms()  # the feed of older events would be dropped


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that PostgreSQL's own user can enter when the tests run as root."""
    path = Path(tempfile.mkdtemp(prefix="hexrun-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def new_order(order_id: str) -> Order:
    stops = tuple(StopForm(place=Place(lat=31.23 + d, lon=121.47)) for d in (0.0, 0.01))
    form = OrderForm(customer_id="anna", stops=stops)
    return JOB.order(order_id, "demo", form, JOB.quote(form, NOW_MS), NOW_MS)


async def offered(store: Store, order_id: str) -> Order:
    created = await store.create_order(new_order(order_id), NOW_MS, idempotency=None)
    offer = Offer(
        at_ms=NOW_MS,
        rider_id="rita",
        deadline_ms=NOW_MS + 20_000,
        route=(RouteStop(order_id=order_id, stop=0), RouteStop(order_id=order_id, stop=1)),
        order_version=created.order.version,
    )
    return (await store.run(order_id, offer)).order


def hexrun(*args: str) -> dict[str, int]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("HEXRUN_")}
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", *args, "--json"],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def sequenced(store: Store, redis_url: str, count: int) -> list[Positioned]:
    """The feed, once it has `count` events."""
    stop = asyncio.Event()
    sequencer = asyncio.create_task(run_sequencer(store, redis_url, stop))
    while len(found := await store.events_after(0, "demo", 1000)) < count:
        await asyncio.sleep(0.02)
    stop.set()
    await sequencer
    return found


async def test_a_running_system(folder: Path) -> None:
    """Backed up while orders come in; restored; the orders go on, under another name."""
    async with open_servers(folder / "one") as urls:
        await migrate(urls.postgres)
        store = await Store.open(urls.postgres)
        writer = SegmentWriter(folder / "one" / "segments", "g1")
        row = FixRow("rita", 1, NOW_MS, 31.23, 121.47)
        future = writer.append(Record(received_ms=NOW_MS, rows=[row]))
        await writer.commit()
        await future
        await offered(store, "first")
        old = await sequenced(store, urls.redis, 3)
        old_name = store.source

        async def more() -> None:
            for n in range(200):
                await offered(store, f"later-{n}")

        coming = asyncio.create_task(more())
        facts = await asyncio.to_thread(
            hexrun, "backup", str(folder / "saved"), "--data", str(folder / "one")
        )
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await writer.close()
        await store.close()
    assert facts["orders"] >= 1

    began_ms = now_ms()
    found = await asyncio.to_thread(
        hexrun, "restore", str(folder / "saved"), "--data", str(folder / "two")
    )
    assert found == facts
    (segment,) = (folder / "two" / "segments").glob("*.seg")
    assert [record.rows for _, record in iterate(segment)] == [[row]]
    async with open_servers(folder / "two") as urls:
        store = await Store.open(urls.postgres)
        assert store.source != old_name
        known = await store.live_orders("demo")
        assert len(known) >= facts["orders"]
        for order in known:
            if order.assignment is not None:
                accept = Accept(at_ms=NOW_MS + 1, rider_id="rita", number=order.attempts)
                outcome = await store.run(order.id, accept)
                assert outcome.order.state is OrderState.ASSIGNED
        entries = await sequenced(store, urls.redis, sum(o.version for o in known) + 1)
        new = [entry for entry in entries if entry.position > len(old)]
        assert entries[: len(old)] == old
        assert new[0].position > 1_000 * began_ms, "above all that the other history ever gave"
        assert new[0].prev_position == old[-1].position
        ahead = [entry.position for entry in new]
        assert ahead == list(range(ahead[0], ahead[0] + len(ahead)))
        await store.close()


@pytest.fixture
async def saved(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The backup of a database that is named by the environment, with one order."""
    await migrate(database_url)
    store = await Store.open(database_url)
    await offered(store, "first")
    await store.close()
    monkeypatch.setenv("HEXRUN_POSTGRES_URL", database_url)
    data = tmp_path / "data"
    (data / "segments").mkdir(parents=True)
    (data / "segments" / "g1-1.seg").write_bytes(b"fixes")
    (data / "secret").write_text("s" * 40)
    await backup(data, tmp_path / "saved")
    return tmp_path / "saved"


async def test_a_backup_does_not_overwrite(saved: Path) -> None:
    with pytest.raises(Conflict, match="new folder"):
        await backup(saved.parent / "data", saved)


async def test_keys_are_left_out_unless_asked_for(saved: Path) -> None:
    assert not (saved / "secret").exists()
    kept = await backup(saved.parent / "data", saved.parent / "kept", with_keys=True)
    assert "secret" in kept["files"]
    assert (saved.parent / "kept" / "secret").stat().st_mode & 0o077 == 0


async def test_only_into_what_is_empty(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="tables"):
        await restore(saved, tmp_path / "other")  # the database of the backup itself
    with pytest.raises(Conflict, match="not empty"):
        await restore(saved, tmp_path / "data")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (lambda path: (path / "manifest.json").unlink(), MissingFile),
        (lambda path: (path / "manifest.json").write_text("{"), InvalidValue),
        (lambda path: (path / "database.dump").unlink(), MissingFile),
        (lambda path: (path / "segments" / "g1-1.seg").write_bytes(b"fixed"), InvalidValue),
    ],
)
async def test_a_spoilt_backup_restores_nothing(
    saved: Path, tmp_path: Path, spoil: Callable[[Path], object], error: type[Exception]
) -> None:
    spoil(saved)
    with pytest.raises(error):
        await restore(saved, tmp_path / "other")
    assert not (tmp_path / "other").exists()


async def test_a_file_outside_is_refused(saved: Path, tmp_path: Path) -> None:
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["files"]["../data/secret"] = {"bytes": 1, "sha256": ""}
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidValue, match="inside the backup"):
        await restore(saved, tmp_path / "other")


async def test_ids_and_positions_of_a_lost_history_are_never_given_again(saved: Path) -> None:
    """Nor those of a restore before this one, even where a clock stands still."""
    url = os.environ["HEXRUN_POSTGRES_URL"]
    given: list[tuple[int, int]] = []
    sql = await asyncpg.connect(url.replace("+asyncpg", "", 1))
    store = await Store.open(url)
    for _ in range(3):
        await store.create_order(new_order(f"o{len(given)}"), NOW_MS, idempotency=None)
        session = await store.open_sequencing()
        assert await session.lock()
        assert await session.take(100)
        assert set(await session.heads()) == {"demo"}
        await session.close()
        last = await sql.fetchrow("SELECT position, event_id FROM feed ORDER BY 1 DESC LIMIT 1")
        assert last is not None
        given.append((last["position"], last["event_id"]))
        await begin_again(url, 1)
    assert await sql.fetchval("SELECT count(*) FROM parts.feed_rest") == 0
    await store.close()
    await sql.close()
    for before, after in itertools.pairwise(given):
        assert all(b + 1_000_000 <= a for b, a in zip(before, after, strict=True))


@pytest.mark.parametrize("revoke", [False, True])
async def test_keys_and_tokens_of_before_are_over_if_asked_for(
    saved: Path, tmp_path: Path, revoke: bool
) -> None:
    url = os.environ["HEXRUN_POSTGRES_URL"]
    store = await Store.open(url)
    await store.keys.create(
        tenant="default",
        city="demo",
        role="operator",
        sub="o",
        label="",
        at_ms=1,
        expires_at_ms=None,
    )
    await store.close()
    await backup(tmp_path / "data", tmp_path / "kept", with_keys=True)
    await emptied(url)
    await restore(tmp_path / "kept", tmp_path / "other", revoke=revoke)
    store = await Store.open(url)
    assert (await store.keys.of_tenant("default", "demo") == []) is revoke
    await store.close()
    assert (tmp_path / "other" / "secret").exists() is not revoke
    assert (tmp_path / "other" / "segments" / "g1-1.seg").exists()


@pytest.mark.parametrize("revision", ["0001", "0004"])
async def test_an_older_release_s_backup(
    revision: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tables lack what today's restore speaks of."""
    await upgrade_to(database_url, revision)
    monkeypatch.setenv("HEXRUN_POSTGRES_URL", database_url)
    data = tmp_path / "data"
    data.mkdir()
    manifest = await backup(data, tmp_path / "saved")
    assert manifest["revision"] == revision
    await emptied(database_url)
    await restore(tmp_path / "saved", tmp_path / "other")
    store = await Store.open(database_url)
    assert (await offered(store, "first")).attempts == 1
    await store.close()


async def emptied(url: str) -> None:
    sql = await asyncpg.connect(url.replace("+asyncpg", "", 1))
    await sql.execute("DROP SCHEMA IF EXISTS parts CASCADE")
    await sql.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    await sql.close()


async def upgrade_to(url: str, revision: str) -> None:
    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    engine = create_async_engine(asyncpg_url(url))
    async with engine.begin() as connection:
        await connection.run_sync(upgrade)
    await engine.dispose()
