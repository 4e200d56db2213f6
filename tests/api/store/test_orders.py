"""Orders in the store: placed once, changed one at a time, each change whole or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import asyncpg
import numpy as np
import pytest
from msgspec.structs import replace

from api.store import IdempotencyKey, Store
from dispatch import commands as c
from dispatch.lifecycle import ORDER
from dispatch.model import Order, OrderState, Party, Place, Rider
from dispatch.transitions import Refusal, apply, fold
from geo.errors import Conflict, InvalidValue, NotFound

NOW_MS = 1_790_000_000_000


def key(body: str = "body", name: str = "k1", client: str = "anna") -> IdempotencyKey:
    return IdempotencyKey(client_id=client, key=name, body_hash=body)


async def test_a_placed_order_stands_with_its_events(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    created = await store.create_order(new_order("o1"), NOW_MS, idempotency=None)
    assert not created.replayed
    assert created.order.state is OrderState.OPEN
    assert await store.order("o1") == created.order
    rows = await sql.fetch("SELECT seq, kind FROM events ORDER BY id")
    assert [tuple(r) for r in rows] == [(1, "placed"), (2, "opened")]
    assert await sql.fetchval("SELECT count(*) FROM outbox") == 2


async def test_an_order_for_later_waits_as_scheduled(
    store: Store, new_order: Callable[..., Order]
) -> None:
    for order_id, opens, state in (("o1", 1, OrderState.SCHEDULED), ("o2", 0, OrderState.OPEN)):
        created = await store.create_order(
            new_order(order_id), NOW_MS, idempotency=key(name=order_id), open_at_ms=NOW_MS + opens
        )
        assert (created.order.state, await store.order(order_id)) == (state, created.order)
    opened = await store.run("o1", c.Open(at_ms=NOW_MS + 1))
    assert opened.order.state is OrderState.OPEN


async def test_unknown_orders(store: Store) -> None:
    for order_id in ("nobody", "zero\0"):
        assert await store.order(order_id) is None
        with pytest.raises(NotFound):
            await store.run(order_id, c.Complete(at_ms=NOW_MS))


async def test_the_same_key_and_body_give_the_first_answer(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    first = await store.create_order(new_order("o1"), NOW_MS, idempotency=key())
    await store.run("o1", c.Cancel(at_ms=NOW_MS + 1, by=Party.CUSTOMER))
    again = await store.create_order(new_order("o2"), NOW_MS + 2, idempotency=key())
    assert again.replayed
    assert again.order == first.order
    assert (await store.replay(key())) == again
    assert await sql.fetchval("SELECT count(*) FROM orders") == 1


async def test_another_body_under_the_same_key_is_a_conflict(
    store: Store, new_order: Callable[..., Order]
) -> None:
    await store.create_order(new_order("o1"), NOW_MS, idempotency=key("one"))
    with pytest.raises(Conflict, match="k1"):
        await store.create_order(new_order("o2"), NOW_MS, idempotency=key("two"))
    with pytest.raises(Conflict, match="k1"):
        await store.replay(key("two"))
    other = await store.create_order(new_order("o2"), NOW_MS, idempotency=key(client="bob"))
    assert not other.replayed


async def test_twenty_at_once_with_one_key_make_one_order(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    answers = await asyncio.gather(
        *(store.create_order(new_order(f"o{n}"), NOW_MS, idempotency=key()) for n in range(20))
    )
    assert sum(not a.replayed for a in answers) == 1
    assert len({a.order.id for a in answers}) == 1
    assert await sql.fetchval("SELECT count(*) FROM orders") == 1
    assert await sql.fetchval("SELECT count(*) FROM events") == 2


async def test_a_failed_write_leaves_nothing(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order]
) -> None:
    await sql.execute(
        "SET LOCAL session_replication_role = replica;"
        " INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)"
        f" VALUES ('order', 'o1', 2, {NOW_MS // 86_400_000}, 'default', 'demo', 0, 'opened', '1')"
    )
    with pytest.raises(asyncpg.UniqueViolationError, match="subject_id, seq"):
        await store.create_order(new_order("o1"), NOW_MS, idempotency=key())
    assert await store.order("o1") is None
    assert await store.replay(key()) is None
    assert await sql.fetchval("SELECT count(*) FROM outbox") == 0


async def test_an_order_is_placed_once(store: Store, new_order: Callable[..., Order]) -> None:
    created = await store.create_order(new_order("o1"), NOW_MS, idempotency=None)
    with pytest.raises(Conflict, match="o1 exists"):
        await store.create_order(new_order("o1"), NOW_MS, idempotency=None)
    with pytest.raises(Conflict, match="only a quoted order"):
        await store.create_order(created.order, NOW_MS, idempotency=None)


async def test_a_text_that_no_database_can_hold_is_named(
    store: Store, new_order: Callable[..., Order]
) -> None:
    with pytest.raises(InvalidValue, match=r"U\+0000"):
        await store.create_order(new_order("o1", note="a\0b"), NOW_MS, idempotency=None)
    created = await store.create_order(new_order("o2", note=r"a\u0000b"), NOW_MS, idempotency=None)
    assert await store.order("o2") == created.order


async def test_a_refusal_changes_nothing(store: Store, placed: Callable[..., Any]) -> None:
    before = await placed("o1")
    outcome = await store.run("o1", c.Complete(at_ms=NOW_MS))
    assert outcome.refusal is not None
    assert outcome.refusal.code == "not_done"
    assert (outcome.order, outcome.events) == (before, ())
    assert await store.order("o1") == before


async def test_the_same_action_again_gives_the_first_outcome(
    store: Store, placed: Callable[..., Any], offer: Callable[..., c.Offer]
) -> None:
    order = await placed("o1")
    await store.run("o1", offer(order))
    accept = c.Accept(at_ms=NOW_MS + 5, rider_id="rita", number=1)
    first = await store.run("o1", accept, action_id="a1")
    await store.run("o1", c.Head(at_ms=NOW_MS + 6, rider_id="rita", stop=0))
    later = replace(accept, at_ms=NOW_MS + 90_000)
    again = await store.run("o1", later, action_id="a1")
    assert again.replayed
    assert (again.order, again.events) == (first.order, first.events)
    assert (await store.order("o1")).version == 5  # type: ignore[union-attr]


async def test_a_refused_action_stays_refused(
    store: Store, placed: Callable[..., Any], offer: Callable[..., c.Offer]
) -> None:
    order = await placed("o1")
    early = c.Accept(at_ms=NOW_MS, rider_id="rita", number=1)
    first = await store.run("o1", early, action_id="a1")
    assert first.refusal is not None
    await store.run("o1", offer(order))
    again = await store.run("o1", early, action_id="a1")
    assert again.replayed
    assert (again.order, again.refusal) == (first.order, first.refusal)
    fresh = await store.run("o1", early, action_id="a2")
    assert fresh.refusal is None


async def test_an_action_id_is_for_one_command(
    store: Store, placed: Callable[..., Any], offer: Callable[..., c.Offer]
) -> None:
    await store.run("o1", offer(await placed("o1")))
    decline = c.Decline(at_ms=NOW_MS, rider_id="rita", number=1)
    await store.run("o1", c.Accept(at_ms=NOW_MS, rider_id="rita", number=1), action_id="a1")
    with pytest.raises(Conflict, match="a1"):
        await store.run("o1", decline, action_id="a1")
    other_rider = await store.run("o1", replace(decline, rider_id="rob"), action_id="a1")
    assert not other_rider.replayed


async def test_one_action_sent_ten_times_at_once_happens_once(
    store: Store, sql: asyncpg.Connection, accepted: Callable[..., Any]
) -> None:
    await accepted("o1")
    head = c.Head(at_ms=NOW_MS, rider_id="rita", stop=0)
    outcomes = await asyncio.gather(*(store.run("o1", head, action_id="a") for _ in range(10)))
    assert sum(not o.replayed for o in outcomes) == 1
    assert len({o.events for o in outcomes}) == 1
    assert await sql.fetchval("SELECT count(*) FROM events WHERE kind = 'heading'") == 1


async def test_of_commands_at_once_one_wins_and_the_others_see_it(
    store: Store, placed: Callable[..., Any], offer: Callable[..., c.Offer]
) -> None:
    order = await placed("o1")
    outcomes = await asyncio.gather(*(store.run("o1", offer(order, f"r{n}")) for n in range(15)))
    won = [o for o in outcomes if o.refusal is None]
    assert len(won) == 1
    codes = {o.refusal.code for o in outcomes if o.refusal}
    assert codes == {"order_moved"}
    assert await store.order("o1") == won[0].order


async def test_who_is_off_shift_accepts_nothing(
    store: Store, placed: Callable[..., Any], offer: Callable[..., c.Offer]
) -> None:
    await store.register_rider(Rider(id="rita", city="demo"))
    await store.run("o1", offer(await placed("o1")))
    accept = c.Accept(at_ms=NOW_MS, rider_id="rita", number=1)
    refused = await store.run("o1", accept)
    assert refused.refusal is not None
    assert refused.refusal.code == "not_on_shift"
    here = Place(lat=31.23, lon=121.47)
    await store.run_rider(
        "rita", c.GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 3_600_000, place=here)
    )
    assert (await store.run("o1", accept)).refusal is None


def _any_command(order: Order, rng: np.random.Generator, at_ms: int) -> c.Command:
    """A command that may or may not fit; more often one that does."""
    live = order.assignment
    number = live.number if live else order.attempts + int(rng.integers(0, 2))
    rider_id = live.rider_id if live and rng.random() < 0.9 else "somebody"
    stop = int(rng.integers(0, len(order.stops)))
    at: dict[str, Any] = {"at_ms": at_ms}
    by_rider: dict[str, Any] = {**at, "rider_id": rider_id}
    choices: list[c.Command] = [
        c.Offer(**by_rider, deadline_ms=at_ms + 500, route=(), order_version=order.version),
        c.Accept(**by_rider, number=number),
        c.Accept(**by_rider, number=number),
        c.Decline(**by_rider, number=number, reason="no"),
        c.TimeOut(**at, number=number),
        c.Withdraw(**at, number=number),
        c.DropOut(**by_rider, number=number),
        c.Head(**by_rider, stop=stop, device_ms=at_ms - 3),
        c.Arrive(**by_rider, stop=stop),
        c.Arrive(**by_rider, stop=stop),
        c.FinishStop(**by_rider, stop=stop),
        c.FinishStop(**by_rider, stop=stop),
        c.FailStop(**by_rider, stop=stop, reason="closed"),
        c.Complete(**at),
    ]
    if rng.random() < 0.02:
        return c.Cancel(**at, by=Party.CUSTOMER, reason="changed my mind")
    return choices[int(rng.integers(0, len(choices)))]


@pytest.mark.parametrize("seed", range(4))
async def test_the_store_is_the_pure_functions_made_durable(
    store: Store, sql: asyncpg.Connection, new_order: Callable[..., Order], seed: int
) -> None:
    """Any commands: the row, the attempts and the history stay what `apply` and `fold` say."""
    rng = np.random.default_rng(seed)
    quoted = new_order("o1")
    known = (await store.create_order(quoted, NOW_MS, idempotency=None)).order
    ended: dict[int, str] = {}
    for step in range(120):
        command = _any_command(known, rng, NOW_MS + step * 300)
        decided = apply(known, command)
        outcome = await store.run("o1", command)
        if isinstance(decided, Refusal):
            assert outcome.refusal == decided
            continue
        after = fold(known, decided)
        assert (outcome.events, outcome.order) == (decided, after)
        live = after.assignment
        row = await sql.fetchrow("SELECT state, version, rider_id FROM orders")
        assert tuple(row) == (after.state, after.version, live.rider_id if live else None)
        attempts = dict(await sql.fetch("SELECT number, state FROM assignments"))
        assert set(attempts) == set(range(1, after.attempts + 1))
        if live:
            assert attempts[live.number] == live.state
        if known.assignment and not live:
            ended[known.assignment.number] = attempts[known.assignment.number]
        assert ended.items() <= attempts.items()
        known = after
        if ORDER.ended(known.state):
            break
    history = await sql.fetch("SELECT seq FROM events ORDER BY id")
    assert [r["seq"] for r in history] == list(range(1, known.version + 1))
    assert await store.order("o1") == known
    end = "capture" if known.state is OrderState.COMPLETED else "release"
    kinds = [r["kind"] for r in await sql.fetch("SELECT kind FROM transfers ORDER BY id")]
    assert kinds == ["hold", *([end] if ORDER.ended(known.state) else [])]


@pytest.mark.parametrize(
    ("command", "state"),
    [
        (c.Decline(at_ms=NOW_MS, rider_id="rita", number=1), "declined"),
        (c.TimeOut(at_ms=NOW_MS + 60_000, number=1), "timed_out"),
        (c.Withdraw(at_ms=NOW_MS, number=1), "withdrawn"),
        (c.Cancel(at_ms=NOW_MS, by=Party.CUSTOMER), "withdrawn"),
    ],
)
async def test_how_an_offer_ended_is_kept(
    store: Store,
    sql: asyncpg.Connection,
    placed: Callable[..., Any],
    offer: Callable[..., c.Offer],
    command: c.Command,
    state: str,
) -> None:
    await store.run("o1", offer(await placed("o1")))
    await store.run("o1", command)
    row = await sql.fetchrow("SELECT rider_id, state, route FROM assignments")
    assert (row["rider_id"], row["state"]) == ("rita", state)
    assert json.loads(row["route"])[1] == {"order_id": "o1", "stop": 1}


@pytest.mark.parametrize(
    ("end", "order_state", "attempt"),
    [
        ("drop", "open", "dropped"),
        ("deliver", "done", "finished"),
        ("fail", "failed", "finished"),
        ("return", "returned", "finished"),
    ],
)
async def test_how_an_accepted_attempt_ended_is_kept(
    store: Store,
    sql: asyncpg.Connection,
    accepted: Callable[..., Any],
    end: str,
    order_state: str,
    attempt: str,
) -> None:
    await accepted("o1")
    rita: dict[str, Any] = {"at_ms": NOW_MS + 9, "rider_id": "rita"}
    fail = c.FailStop(**rita, stop=0, reason="closed")
    steps: dict[str, list[c.Command]] = {
        "drop": [c.DropOut(**rita, number=1)],
        "deliver": [
            c.Arrive(**rita, stop=0),
            c.FinishStop(**rita, stop=0),
            c.Arrive(**rita, stop=1),
            c.FinishStop(**rita, stop=1),
        ],
        "fail": [c.Arrive(**rita, stop=0), fail],
        "return": [
            c.Arrive(**rita, stop=0),
            c.FinishStop(**rita, stop=0),
            c.Arrive(**rita, stop=1),
            replace(fail, stop=1),
            c.Arrive(**rita, stop=2),
            c.FinishStop(**rita, stop=2),
        ],
    }
    for command in steps[end]:
        outcome = await store.run("o1", command)
        assert outcome.refusal is None
    row = await sql.fetchrow(
        "SELECT o.state, a.state AS attempt, o.rider_id FROM orders o"
        " JOIN assignments a ON a.order_id = o.id"
    )
    assert tuple(row) == (order_state, attempt, None)
