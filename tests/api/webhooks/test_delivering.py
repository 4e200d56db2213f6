"""Events reach real receivers: in order within an order, whatever fails, and none is lost."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import asyncpg
import pytest

from api.clock import monotonic_s, now_ms
from api.settings import WebhookSettings
from api.store import Store
from api.store.webhooks import Endpoint, Whose
from api.webhooks import WebhookCaller, make_key, verify
from api.webhooks.delivering import Delivering

Make = Callable[..., Awaitable[Any]]
HERE = Whose("default", "demo")


async def test_every_event_once_in_order_and_signed(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, settled: Make
) -> None:
    made = await endpoint(receiver.url)
    for n in range(5):
        await live(f"o{n}", 6)
    senders.start()
    await receiver.until(lambda: len(receiver.got) >= 30)
    await settled(made)
    assert receiver.lives() == {f"o{n}": [1, 2, 3, 4, 5, 6] for n in range(5)}
    assert len(receiver.got) == 30
    feed = {p.position: p for p in await store.events_after(0, "demo", 100)}
    for request in receiver.got:
        event, headers = request.event, request.headers
        entry = feed[event["position"]]
        assert event.keys() == {
            "event_id", "position", "city", "subject", "id", "seq", "at_ms", "kind", "fact",
        }  # fmt: skip
        assert (event["id"], event["seq"]) == (entry.event.order_id, entry.event.seq)
        assert headers["hexrun-event-id"] == event["event_id"]
        assert headers["hexrun-key-id"] == made.key.id
        assert headers["content-type"] == "application/json"
        assert verify(made.key.secret, headers, request.body, now_ms() / 1000)
    assert len({r.event["event_id"] for r in receiver.got}) == 30
    assert receiver.connections <= 5  # lanes at once, over connections that are kept


async def test_no_row_is_left_by_what_succeeds(
    store: Store,
    sql: asyncpg.Connection,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    settled: Make,
) -> None:
    made = await endpoint(receiver.url)
    await live("o1", 8)
    senders.start()
    await settled(made)
    assert await sql.fetchval("SELECT count(*) FROM webhook_behind") == 0
    assert await sql.fetchval("SELECT count(*) FROM webhook_dead_letters") == 0


async def test_a_failing_order_holds_back_itself_alone(
    store: Store,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    drop: type[Exception],
    settled: Make,
) -> None:
    mended = asyncio.Event()

    async def behave(event: Any) -> int:
        if mended.is_set() or event["seq"] != 3:
            return 200
        if event["id"] == "fails":
            return 500
        if event["id"] == "moved":
            return 302
        if event["id"] == "drops":
            raise drop
        return 204

    receiver.behave = behave
    made = await endpoint(receiver.url)
    for name in ("fails", "moved", "drops", "good", "fine"):
        await live(name, 8)
    senders.start()
    whole = list(range(1, 9))
    await receiver.until(
        lambda: receiver.lives().get("good") == whole and receiver.lives().get("fine") == whole
    )
    # Retried meanwhile, and nothing of theirs came past.
    await receiver.until(lambda: len([r for r in receiver.got if r.status == 500]) >= 4)
    for name in ("fails", "moved", "drops"):
        assert receiver.lives()[name] == [1, 2]
    assert {r.path for r in receiver.got} == {"/hook"}
    found = await store.webhooks.deliveries(HERE, made.id, 2**62, 100, 0)
    states = {(d.subject_id, d.seq): d.state for d in found}
    assert states["fails", 2] == "delivered"
    assert states["fails", 3] == "retrying"
    assert states["fails", 4] == "waiting"
    assert states["good", 8] == "delivered"
    problem = next(d for d in found if (d.subject_id, d.seq) == ("fails", 3))
    assert problem.attempts >= 1
    assert problem.last_error == "answered 500"
    mended.set()
    await settled(made)
    assert set(map(tuple, receiver.lives().values())) == {tuple(whole)}


async def test_orders_go_side_by_side_and_an_order_one_at_a_time(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, settled: Make
) -> None:
    busy: defaultdict[str, int] = defaultdict(int)
    together = asyncio.Event()

    async def behave(event: Any) -> int:
        name = event["id"]
        assert busy[name] == 0
        busy[name] += 1
        if receiver.busy >= 16:
            together.set()
        # Nobody is answered before sixteen orders wait at once.
        await together.wait()
        await asyncio.sleep(0)
        busy[name] -= 1
        return 200

    receiver.behave = behave
    made = await endpoint(receiver.url)
    for n in range(20):
        await live(f"o{n}", 4)
    senders.start()
    await settled(made)
    assert receiver.busy_max == 16
    assert receiver.lives() == {f"o{n}": [1, 2, 3, 4] for n in range(20)}


async def test_an_order_that_hangs_does_not_hold_the_others(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, more: Make, settled: Make
) -> None:
    answer = asyncio.Event()

    async def behave(event: Any) -> int:
        if event["id"] == "hangs":
            await answer.wait()
        return 200

    receiver.behave = behave
    made = await endpoint(receiver.url)
    senders.start()
    await live("hangs", 4)
    order = await live("runs", 4)
    await receiver.until(lambda: receiver.lives().get("runs") == [1, 2, 3, 4])
    await more(order, 8)
    await receiver.until(lambda: receiver.lives()["runs"] == list(range(1, 9)))
    assert "hangs" not in receiver.lives()
    answer.set()
    await settled(made)
    assert receiver.lives()["hangs"] == [1, 2, 3, 4]


async def test_given_up_after_its_time_and_sent_again(
    store: Store,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    fast: WebhookSettings,
    settled: Make,
) -> None:
    refuse = True

    async def behave(event: Any) -> int:
        return 500 if refuse and event["id"] == "poison" and event["seq"] == 2 else 200

    receiver.behave = behave
    made = await endpoint(receiver.url)
    await live("poison", 4)
    await live("good", 4)
    senders.start(replace(fast, give_up_s=1.0))
    await settled(made)
    # 0.1, 0.2, 0.4 and 0.4 would be over 1 s: four attempts.
    tried = [r for r in receiver.got if (r.event["id"], r.event["seq"]) == ("poison", 2)]
    assert len(tried) == 4
    waits = [b.at_s - a.at_s for a, b in pairwise(tried)]
    assert all(wait > least for wait, least in zip(waits, (0.095, 0.195, 0.395), strict=True))
    # The later ones went on, and the gap in `seq` says so.
    assert receiver.lives() == {"poison": [1, 3, 4], "good": [1, 2, 3, 4]}
    (letter,) = await store.webhooks.dead_letters(HERE, made.id, 0, 10)
    assert (letter.subject, letter.subject_id, letter.seq) == ("order", "poison", 2)
    assert (letter.kind, letter.attempts) == ("opened", 4)
    assert str(letter.event_id) == tried[0].event["event_id"]
    assert letter.position == tried[0].event["position"]
    assert await store.webhooks.retry_dead(HERE, made.id, letter.position) == 1
    await receiver.until(lambda: len([r for r in receiver.got if r.status == 500]) == 5)
    async with asyncio.timeout(10):
        while (await store.webhooks.dead_letters(HERE, made.id, 0, 10))[0].attempts != 5:
            await asyncio.sleep(0.01)
    refuse = False
    assert await store.webhooks.retry_dead(HERE, made.id, None) == 1
    async with asyncio.timeout(10):
        while await store.webhooks.dead_letters(HERE, made.id, 0, 10):
            await asyncio.sleep(0.01)
    assert receiver.lives()["poison"] == [1, 3, 4, 2]


@pytest.fixture
async def dead(
    store: Store, sequencer: None, sql: asyncpg.Connection, endpoint: Make, live: Make
) -> Endpoint:
    """An endpoint of this test's with the first event as a dead letter, to be sent again."""
    made: Endpoint = await endpoint("http://127.0.0.1:9/")
    await live("o1", 2)
    async with asyncio.timeout(10):
        while await store.last_position("demo") < 2:
            await asyncio.sleep(0.01)
    await sql.execute(
        "INSERT INTO webhook_dead_letters SELECT $1, f.position, e.id, 'order', e.subject_id,"
        " e.seq, e.kind, 11, 1, 'answered 500', false"
        " FROM feed f JOIN events e ON e.id = f.event_id ORDER BY f.position LIMIT 1",
        made.id,
    )
    assert await store.webhooks.retry_dead(HERE, made.id, None) == 1
    return made


async def test_a_dead_letter_whose_event_is_gone_is_kept(
    store: Store, sql: asyncpg.Connection, dead: Endpoint, fast: WebhookSettings
) -> None:
    sending = store.webhooks.sending
    (mine,) = await sending.take(10, 60_000)
    ((_, position),) = await sending.asked([dead.id], 10)
    await sql.execute("DELETE FROM feed")
    async with WebhookCaller(allow_private=True) as caller:
        held = Delivering(mine, monotonic_s() + 60, sending, caller, lambda *_: {}, fast)
        await held.resend(position)
    (letter,) = await store.webhooks.dead_letters(HERE, dead.id, 0, 10)
    assert (letter.retry_asked, letter.attempts) == (False, 12)
    assert "too old" in letter.last_error


async def test_who_has_lost_the_lease_settles_no_dead_letter(store: Store, dead: Endpoint) -> None:
    sending = store.webhooks.sending
    (late,) = await sending.take(10, 0)
    (mine,) = await sending.take(10, 60_000)
    ((_, position),) = await sending.asked([dead.id], 10)
    for error in ("refused", None):
        await sending.settle_dead(late, position, error)
        (letter,) = await store.webhooks.dead_letters(HERE, dead.id, 0, 10)
        assert (letter.retry_asked, letter.attempts) == (True, 11)
    await sending.settle_dead(mine, position, None)
    assert await store.webhooks.dead_letters(HERE, dead.id, 0, 10) == []


async def test_paused_and_resumed_with_nothing_lost(
    store: Store,
    sql: asyncpg.Connection,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    more: Make,
    settled: Make,
) -> None:
    made = await endpoint(receiver.url)
    senders.start()
    order = await live("o1", 4)
    await settled(made)
    await store.webhooks.pause(HERE, made.id, "asked")
    async with asyncio.timeout(10):
        while await sql.fetchval("SELECT lease_until_ms FROM webhook_endpoints"):
            await asyncio.sleep(0.02)
    count = len(receiver.got)
    await more(order, 8)
    await live("o2", 2)
    async with asyncio.timeout(10):
        while await store.last_position("demo") < 10:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert len(receiver.got) == count
    resumed = await store.webhooks.resume(HERE, made.id)
    assert (resumed.state, resumed.paused_reason) == ("active", None)
    await settled(made)
    assert receiver.lives() == {"o1": list(range(1, 9)), "o2": [1, 2]}
    assert len(receiver.got) == 10


async def test_an_endpoint_that_fails_long_is_paused_and_goes_on_in_order(
    store: Store,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    fast: WebhookSettings,
    settled: Make,
) -> None:
    down = True

    async def behave(event: Any) -> int:
        return 503 if down else 200

    receiver.behave = behave
    made = await endpoint(receiver.url)
    for n in range(60):  # more than fail before the rest is held back
        await live(f"o{n}", 2)
    senders.start(replace(fast, retry_s=(0.5,), pause_s=1.0))
    paused = await until_paused(store, made.id)
    assert paused.paused_reason.startswith("failing: no success since ")
    assert paused.paused_reason.endswith("answered 503")
    assert await store.webhooks.dead_letters(HERE, made.id, 0, 10) == []
    tried = {r.event["id"] for r in receiver.got}
    assert len(tried) < 60  # a receiver that is down is not called for every order
    down = False
    await store.webhooks.resume(HERE, made.id)
    await settled(made)
    assert receiver.lives() == {f"o{n}": [1, 2] for n in range(60)}


async def until_paused(store: Store, endpoint_id: str) -> Any:
    async with asyncio.timeout(20):
        while True:
            one = await store.webhooks.one(HERE, endpoint_id)
            if one.state == "paused":
                return one
            await asyncio.sleep(0.02)


async def test_who_is_down_for_hours_gets_everything_by_itself(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, settled: Make
) -> None:
    """The settings as they are, each hour a second: it is down for three."""
    usual, hour = WebhookSettings(), 1 / 3_600
    scaled = WebhookSettings(
        retry_s=tuple(wait_s * hour for wait_s in usual.retry_s),
        give_up_s=usual.give_up_s * hour,
        pause_s=usual.pause_s * hour,
        allow_private=True,
    )
    assert usual.pause_s >= usual.give_up_s
    down = True

    async def behave(event: Any) -> int:
        return 503 if down else 200

    receiver.behave = behave
    made = await endpoint(receiver.url)
    for n in range(60):
        await live(f"o{n}", 4)
    senders.start(scaled)
    await receiver.until(lambda: bool(receiver.got))
    await asyncio.sleep(3)
    since_ms = (await store.webhooks.one(HERE, made.id)).failing_since_ms
    assert since_ms is not None
    assert now_ms() - since_ms > 1_500
    down = False
    await settled(made)
    one = await store.webhooks.one(HERE, made.id)
    assert (one.state, one.failing_since_ms) == ("active", None)
    assert receiver.lives() == {f"o{n}": [1, 2, 3, 4] for n in range(60)}
    assert await store.webhooks.dead_letters(HERE, made.id, 0, 10) == []


async def test_the_first_success_ends_the_waiting(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, settled: Make
) -> None:
    """Those that would be tried in an hour go at once."""
    down = True

    async def behave(event: Any) -> int:
        return 503 if down else 200

    receiver.behave = behave
    made = await endpoint(receiver.url)
    for n in range(40):
        await live(f"o{n}", 2)
    senders.start(replace(FAST_THEN_HOURS, allow_private=True))
    async with asyncio.timeout(20):
        while len(await store.webhooks.sending.behind(made.id)) < 20:
            await asyncio.sleep(0.02)
    down = False
    await settled(made)
    assert receiver.lives() == {f"o{n}": [1, 2] for n in range(40)}


FAST_THEN_HOURS = WebhookSettings(retry_s=(0.5, 3_600.0), give_up_s=86_400)


async def test_one_that_may_not_be_called_any_more_is_paused(
    store: Store,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    dead: Endpoint,
    fast: WebhookSettings,
    settled: Make,
) -> None:
    """Made while private addresses, any port and `http` were allowed."""
    made = await endpoint(receiver.url)
    odd = await endpoint("https://hooks.example.com:22/")
    order = await live("o2", 2)
    senders.start(replace(fast, allow_private=False))
    assert (
        await until_paused(store, made.id)
    ).paused_reason == "not allowed: expected a url with https"
    reason = (await until_paused(store, odd.id)).paused_reason
    assert reason == "not allowed: expected a url with port 80, 443 or 1024 to 65535"
    assert (await until_paused(store, dead.id)).cursor == 0
    (letter,) = await store.webhooks.dead_letters(HERE, dead.id, 0, 10)
    assert (letter.retry_asked, letter.attempts) == (True, 11)
    assert receiver.connections == 0
    await senders.stop()
    senders.start(fast)
    await store.webhooks.resume(HERE, made.id)
    await settled(made)
    assert receiver.lives()[order.id] == [1, 2]


async def test_gone_pauses_at_once(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, settled: Make
) -> None:
    async def behave(event: Any) -> int:
        return 410

    receiver.behave = behave
    made = await endpoint(receiver.url)
    await live("o1", 2)
    senders.start()
    assert (await until_paused(store, made.id)).paused_reason == "gone: it answered 410"
    assert len(receiver.got) == 1
    receiver.behave = receiver.accept
    await store.webhooks.resume(HERE, made.id)
    await settled(made)
    assert receiver.lives() == {"o1": [1, 2]}


async def test_a_receiver_that_is_down_for_a_while(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, settled: Make
) -> None:
    made = await endpoint(receiver.url)
    port = receiver.port
    await receiver.stop()
    await live("o1", 4)
    senders.start()
    async with asyncio.timeout(10):
        while not await store.webhooks.sending.behind(made.id):
            await asyncio.sleep(0.02)
    (behind,) = await store.webhooks.sending.behind(made.id)
    assert behind.last_error == "cannot connect"
    await receiver.start(port)
    await settled(made)
    assert receiver.lives() == {"o1": [1, 2, 3, 4]}


async def test_rotated_secrets_sign_side_by_side(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, more: Make, settled: Make
) -> None:
    made = await endpoint(receiver.url)
    senders.start()
    order = await live("o1", 2)
    await settled(made)
    key = make_key()
    await store.webhooks.rotate(HERE, made.id, key, now_ms() + 60_000, now_ms())
    await asyncio.sleep(0.3)  # the sender looks every 50 ms
    order = await more(order, 4)
    await settled(made)
    await store.webhooks.rotate(HERE, made.id, make_key(), 0, now_ms())
    await asyncio.sleep(0.3)
    await more(order, 6)
    await settled(made)
    old, both, new = receiver.got[0], receiver.got[2], receiver.got[4]
    last = (await store.webhooks.one(HERE, made.id)).key
    now_s = now_ms() / 1000

    def signed(request: Any) -> list[bool]:
        keys = (made.key, key, last)
        return [verify(k.secret, request.headers, request.body, now_s) for k in keys]

    assert [signed(r) for r in (old, both, new)] == [
        [True, False, False],
        [True, True, False],
        [False, False, True],
    ]
    assert both.headers["hexrun-key-id"] == f"{key.id},{made.key.id}"


async def test_kinds_and_places_as_asked(
    store: Store,
    senders: Any,
    receiver: Any,
    new_receiver: Make,
    endpoint: Make,
    live: Make,
    settled: Make,
) -> None:
    other = await new_receiver()
    made = await endpoint(receiver.url, kinds=("placed", "declined"), coordinate_system="wgs84")
    await endpoint(other.url, whose=Whose("else", "demo"))
    await endpoint(other.url, whose=Whose("default", "elsewhere"))
    await endpoint(other.url, after=None, kinds=("offered",))
    order = await live("o1", 4)
    senders.start()
    await settled(made)
    assert [e["kind"] for e in receiver.taken()] == ["placed", "declined"]
    place = receiver.taken()[0]["fact"]["order"]["stops"][0]["place"]
    assert place == {
        "lat": order.stops[0].place.lat,
        "lon": order.stops[0].place.lon,
        "coordinate_system": "wgs84",
        "text": "",
    }
    await other.until(lambda: len(other.got) >= 1)
    assert [e["kind"] for e in other.taken()] == ["offered"]
    # What was not asked for before is not sent afterwards.
    await store.webhooks.change(HERE, made.id, {"kinds": None})
    await live("o2", 2)
    await receiver.until(lambda: "o2" in receiver.lives() and len(receiver.lives()["o2"]) == 2)
    assert receiver.lives()["o1"] == [1, 4]
    found = await store.webhooks.deliveries(HERE, made.id, 2**62, 100, 0)
    assert {d.subject_id for d in found} == {"o2"}


async def test_a_long_answer_and_cookies_are_not_kept(
    store: Store, senders: Any, receiver: Any, endpoint: Make, live: Make, settled: Make
) -> None:
    receiver.answer = b"x" * 10_000_000
    receiver.headers = b"Set-Cookie: a=b\r\n"
    made = await endpoint(receiver.url)
    await live("o1", 4)
    senders.start()
    await settled(made)
    assert receiver.lives() == {"o1": [1, 2, 3, 4]}
    assert len(receiver.got) == 4
    assert receiver.connections == 4  # cut off, so each needed one of its own
    assert not any("cookie" in r.headers for r in receiver.got)


async def test_late_commits_are_not_skipped(
    store: Store,
    sql: asyncpg.Connection,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    more: Make,
    settled: Make,
) -> None:
    made = await endpoint(receiver.url)
    senders.start()
    order = await live("late", 2)
    await settled(made)
    # An event gets its id, and is not committed while others are written after it.
    held = sql.transaction()
    await held.start()
    await sql.execute("SET session_replication_role = replica")
    event_id = await sql.fetchval(
        "INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)"
        " VALUES ('order', 'late', 3, 0, 'default', 'demo', $1, 'opened', '{}') RETURNING id",
        now_ms(),
    )
    await sql.execute("INSERT INTO outbox (event_id, day) VALUES ($1, 0)", event_id)
    await live("o2", 4)
    await receiver.until(lambda: receiver.lives().get("o2") == [1, 2, 3, 4])
    async with asyncio.timeout(10):
        while (await store.webhooks.one(HERE, made.id)).cursor < 6:
            await asyncio.sleep(0.02)
    assert max(int(r.event["event_id"]) for r in receiver.got) > event_id
    assert receiver.lives()["late"] == [1, 2]
    await held.commit()
    await receiver.until(lambda: receiver.lives()["late"] == [1, 2, 3])
    assert receiver.taken()[-1]["event_id"] == str(event_id)
    assert order.version == 2


@pytest.mark.parametrize("after", [None, 0, 2])
async def test_where_it_starts(
    store: Store,
    senders: Any,
    receiver: Any,
    endpoint: Make,
    live: Make,
    after: int | None,
    settled: Make,
) -> None:
    await live("o1", 4)
    async with asyncio.timeout(10):
        while await store.last_position("demo") < 4:
            await asyncio.sleep(0.01)
    made = await endpoint(receiver.url, after=after)
    senders.start()
    await live("o2", 2)
    await receiver.until(lambda: len(receiver.lives().get("o2", ())) == 2)
    await settled(made)
    wanted = {None: [], 0: [1, 2, 3, 4], 2: [3, 4]}[after]
    assert receiver.lives().get("o1", []) == wanted
