"""One call: how long it may take, what is read of the answer, what is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from api.store.webhooks import Endpoint
from api.webhooks import WebhookCaller

Make = Callable[..., Awaitable[Endpoint]]


async def test_a_receiver_that_hangs(receiver: Any, endpoint: Make) -> None:
    async def never(event: Any) -> int:
        await asyncio.sleep(60)
        return 200

    receiver.behave = never
    async with WebhookCaller(allow_private=True, limit_s=0.2) as caller:
        outcome = await caller.call(await endpoint(receiver.url), "1", b"{}")
    assert (outcome.status, outcome.error) == (None, "no answer within 0.2 s")


async def test_a_body_that_does_not_end_is_not_waited_for(endpoint: Make) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nso far")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = await endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    async with WebhookCaller(allow_private=True, limit_s=0.5) as caller:
        outcome = await caller.call(made, "1", b"{}")
    server.close()
    assert outcome.delivered


async def test_a_short_answer_keeps_the_connection(receiver: Any, endpoint: Make) -> None:
    receiver.answer = b"thank you"
    made = await endpoint(receiver.url)
    async with WebhookCaller(allow_private=True) as caller:
        for n in range(5):
            assert (await caller.call(made, str(n), b"{}")).delivered
    assert receiver.connections == 1


@pytest.mark.parametrize("garbage", [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\n" * 20_000])
async def test_an_answer_that_is_not_http(endpoint: Make, garbage: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(garbage)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made = await endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
    async with WebhookCaller(allow_private=True) as caller:
        outcome = await caller.call(made, "1", b"{}")
    server.close()
    assert outcome.status is None
    assert outcome.error in (
        "the answer is not HTTP, or ended early",
        "the connection was lost",
    )


async def test_what_is_counted(
    senders: Any, receiver: Any, endpoint: Make, live: Any, settled: Any
) -> None:
    def counted(outcome: str) -> float:
        labels = {"city": "demo", "outcome": outcome}
        return REGISTRY.get_sample_value("hexrun_webhook_deliveries_total", labels) or 0.0

    async def once(event: Any) -> int:
        return 200 if receiver.got else 500

    before = counted("delivered"), counted("refused")
    receiver.behave = once
    made = await endpoint(receiver.url)
    await live("o1", 4)
    senders.start()
    await settled(made)
    assert (counted("delivered") - before[0], counted("refused") - before[1]) == (4, 1)
    async with asyncio.timeout(10):
        while REGISTRY.get_sample_value("hexrun_webhook_lag_positions", {"city": "demo"}) != 0:
            await asyncio.sleep(0.02)


async def test_no_secret_is_logged(
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Any,
    settled: Any,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("DEBUG")

    async def gone(event: Any) -> int:
        return 410

    receiver.behave = gone
    made = await endpoint(receiver.url + "/path-token")
    await live("o1", 2)
    senders.start()
    await receiver.until(lambda: len(receiver.got) == 1)
    await senders.stop()
    out, err = capsys.readouterr()
    # The libraries' own lines are for whoever debugs them; ours are always on.
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("httpcore2")]
    text = "\n".join([out, err, *ours])
    assert made.id in text
    assert made.key.secret not in text
    assert "path-token" not in text
