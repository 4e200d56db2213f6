"""Several senders, killed and stopped ones: each event arrives all the same, in order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from api.settings import WebhookSettings
from api.store import Store
from api.store.webhook_sending import Progress
from api.store.webhooks import Whose
from api.webhooks import WebhookCaller
from api.webhooks.delivering import Delivering, LeaseLost

Make = Callable[..., Awaitable[Any]]
HERE = Whose("default", "demo")


@pytest.fixture
async def processes(
    webhook_database: str, redis_url: str, tmp_path: Path, sequencer: None
) -> AsyncIterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start `hexrun role webhooks` in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []
    env = os.environ | {
        "HEXRUN_POSTGRES_URL": webhook_database,
        "HEXRUN_REDIS_URL": redis_url,
        "HEXRUN_SECRET": "test-" * 8,
        "HEXRUN_WEBHOOK_ALLOW_PRIVATE": "1",
        "HEXRUN_WEBHOOK_RETRY_S": "0.1,0.2",
    }

    def start() -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-m", "api.cli", "role", "webhooks", "--data", str(tmp_path)]
        log = (tmp_path / "log").open("ab")
        process = subprocess.Popen(argv, env=env, stdout=log, stderr=log)
        log.close()
        started.append(process)
        return process

    yield start
    for process in started:
        process.send_signal(signal.SIGCONT)
        process.terminate()
    for process in started:
        await asyncio.to_thread(process.wait, 20)


def in_order(receiver: Any) -> bool:
    """An event comes again at most from where its order was: never before an earlier one."""
    reached: dict[str, int] = {}
    for event in receiver.taken():
        if event["seq"] > reached.get(event["id"], 0) + 1:
            return False
        reached[event["id"]] = max(event["seq"], reached.get(event["id"], 0))
    return True


async def test_killed_in_the_middle(
    processes: Callable[[], subprocess.Popen[bytes]],
    receiver: Any,
    endpoint: Make,
    live: Make,
    settled: Make,
) -> None:
    async def slowly(event: Any) -> int:
        await asyncio.sleep(0.02)
        failing = event["id"] == "o1" and event["seq"] == 3 and len(receiver.got) < 60
        return 500 if failing else 200

    receiver.behave = slowly
    made = await endpoint(receiver.url)
    for n in range(6):
        await live(f"o{n}", 20)
    first = processes()
    await receiver.until(lambda: len(receiver.got) >= 20)
    first.kill()
    await asyncio.to_thread(first.wait)
    count = len(receiver.got)
    processes()
    await settled(made)
    assert in_order(receiver)
    assert receiver.lives() == {f"o{n}": list(range(1, 21)) for n in range(6)}
    assert count < 120 < len(receiver.got)  # it was in the middle, and some came twice


async def test_a_stopped_one_wakes_up_too_late(
    processes: Callable[[], subprocess.Popen[bytes]],
    receiver: Any,
    endpoint: Make,
    live: Make,
    more: Make,
    settled: Make,
    store: Store,
) -> None:
    answer = asyncio.Event()

    async def behave(event: Any) -> int:
        if event["seq"] == 2:
            await answer.wait()
        return 200

    receiver.behave = behave
    made = await endpoint(receiver.url)
    order = await live("o1", 6)
    first = processes()
    await receiver.until(lambda: receiver.busy > 0)
    first.send_signal(signal.SIGSTOP)
    await asyncio.sleep(0.05)
    answer.set()  # its answer lies in the socket of a process that sleeps
    processes()
    await settled(made)
    assert receiver.lives() == {"o1": [1, 2, 3, 4, 5, 6]}
    whole = await store.webhooks.one(HERE, made.id)
    sent = len(receiver.got)
    first.send_signal(signal.SIGCONT)
    await more(order, 8)
    await settled(made)
    await asyncio.sleep(1.5)  # a look of the one that woke up
    after = await store.webhooks.one(HERE, made.id)
    assert after.epoch == whole.epoch
    assert after.cursor == 8
    # The one that woke up sent nothing: each of the two came once.
    assert [e["seq"] for e in receiver.taken()[sent:]] == [7, 8]


async def test_two_senders_share_without_doubles(
    senders: Any, new_receiver: Make, endpoint: Make, live: Make, settled: Make
) -> None:
    receivers = [await new_receiver() for _ in range(4)]
    made = [await endpoint(r.url) for r in receivers]
    senders.start()
    senders.start()
    for n in range(4):
        await live(f"o{n}", 6)
    for one in made:
        await settled(one)
    for receiver in receivers:
        assert receiver.lives() == {f"o{n}": [1, 2, 3, 4, 5, 6] for n in range(4)}
        assert len(receiver.got) == 24


async def test_a_sender_that_ends_gives_its_endpoints_back(
    senders: Any, receiver: Any, endpoint: Make, live: Make, more: Make, settled: Make
) -> None:
    made = await endpoint(receiver.url)
    senders.start()
    order = await live("o1", 4)
    await settled(made)
    await senders.stop()
    await more(order, 8)
    senders.start()
    await settled(made)
    assert [e["seq"] for e in receiver.taken()] == list(range(1, 9))


async def test_a_lost_lease_writes_nothing(store: Store, endpoint: Make) -> None:
    sending = store.webhooks.sending
    await endpoint("http://127.0.0.1:9/")
    (first,) = await sending.take(10, 0)
    (second,) = await sending.take(10, 60_000)
    assert second.epoch == first.epoch + 1
    assert await sending.take(10, 60_000) == []
    forward = Progress(cursor=7, failing_since_ms=None)
    assert not await sending.save(first, forward)
    assert await sending.save(second, forward)
    assert await sending.renew({first.id: first.epoch}, 60_000) == []
    await sending.release(first.id, first.epoch)
    assert await sending.take(10, 60_000) == []
    assert [e.cursor for e in await sending.renew({second.id: second.epoch}, 60_000)] == [7]


async def test_nothing_is_sent_without_a_lease(
    store: Store, sequencer: None, receiver: Any, endpoint: Make, live: Make, fast: WebhookSettings
) -> None:
    await endpoint(receiver.url)
    await live("o1", 2)
    async with asyncio.timeout(10):
        while await store.last_position("demo") < 2:
            await asyncio.sleep(0.01)
    sending = store.webhooks.sending
    (mine,) = await sending.take(10, 60_000)
    async with WebhookCaller(allow_private=True) as caller:
        late = Delivering(mine, 0.0, sending, caller, lambda entry, system: {}, fast)
        late.head = 2
        with pytest.raises(LeaseLost):
            async with asyncio.timeout(10):
                await late.run()
    assert receiver.got == []


async def test_a_changed_endpoint_starts_again_from_its_cursor(
    store: Store,
    senders: Any,
    receiver: Any,
    new_receiver: Make,
    endpoint: Make,
    live: Make,
    more: Make,
    settled: Make,
) -> None:
    other = await new_receiver()
    made = await endpoint(receiver.url)
    senders.start()
    order = await live("o1", 4)
    await settled(made)
    await store.webhooks.change(HERE, made.id, {"url": other.url})
    await more(order, 8)
    await settled(made)
    assert receiver.lives() == {"o1": [1, 2, 3, 4]}
    assert other.lives() == {"o1": [5, 6, 7, 8]}
