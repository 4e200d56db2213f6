"""Claims on a real database: one winner however many press, and who may press at all."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from api.store import Store
from dispatch.commands import Accept, Arrive, Claim, DropOut, Expire, GoOnShift, Offer
from dispatch.events import Accepted, Offered
from dispatch.model import Matching, OrderState, Place, Rider, RouteStop
from geo.errors import Conflict, NotFound

NOW_MS = 1_790_000_000_000
HOUR_MS = 3_600_000
HALL = {"matching": Matching.HALL}

_CLAIMER = """
import asyncio, json, sys
from api.store import Store
from dispatch.commands import Claim

async def main():
    url, name, count, at_ms = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    store = await Store.open(url)
    print("ready", flush=True)
    sys.stdin.readline()
    claims = (
        store.hall.claim(
            "o", Claim(at_ms=at_ms, rider_id=f"{name}-{n}"),
            tenant="default", city="demo", action_id="a",
        )
        for n in range(count)
    )
    done = await asyncio.gather(*claims)
    print(json.dumps([None if d.refusal is None else d.refusal.code for d in done]))
    await store.close()

asyncio.run(main())
"""


@pytest.fixture
def on_shift(store: Store) -> Callable[..., Any]:
    async def start(rider_id: str, **fields: Any) -> None:
        await store.register_rider(Rider(**{"id": rider_id, "city": "demo"} | fields))
        shift = GoOnShift(
            at_ms=NOW_MS, shift_end_ms=NOW_MS + 8 * HOUR_MS, place=Place(lat=31.23, lon=121.47)
        )
        assert (await store.run_rider(rider_id, shift)).refusal is None

    return start


@pytest.fixture
def claim(store: Store) -> Callable[..., Any]:
    async def ask(order_id: str, rider_id: str, at_ms: int = NOW_MS + 1, **more: Any) -> Any:
        wanted = {"tenant": "default", "city": "demo"} | more
        return await store.hall.claim(order_id, Claim(at_ms=at_ms, rider_id=rider_id), **wanted)

    return ask


async def test_riders_of_several_processes_claim_and_one_has_it(
    store: Store, sql: asyncpg.Connection, migrated_url: str, placed: Any, on_shift: Any
) -> None:
    await placed("o", **HALL)
    processes, each = 3, 40
    for name in range(processes):
        for n in range(each):
            await on_shift(f"p{name}-{n}")
    running = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _CLAIMER, migrated_url, f"p{name}", str(each), str(NOW_MS),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )
        for name in range(processes)
    ]  # fmt: skip
    for process in running:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    told = await asyncio.gather(*(process.communicate(b"go\n") for process in running))
    codes = Counter(code for out, _ in told for code in json.loads(out))
    assert codes == {None: 1, "already_taken": processes * each - 1}
    kinds = await sql.fetch("SELECT kind FROM events WHERE subject_id = 'o' ORDER BY seq")
    assert [row["kind"] for row in kinds] == ["placed", "opened", "offered", "accepted"]


async def test_who_comes_late_does_not_wait_for_the_lock(
    store: Store, sql: asyncpg.Connection, placed: Any, on_shift: Any, claim: Any
) -> None:
    await placed("o", **HALL)
    await on_shift("rita")
    assert (await claim("o", "rita")).refusal is None
    async with sql.transaction():
        await sql.execute("SELECT 1 FROM orders WHERE id = 'o' FOR UPDATE")
        late = await asyncio.gather(*(claim("o", f"r{n}") for n in range(50)))
    assert {outcome.refusal.code for outcome in late} == {"already_taken"}


async def test_the_winner_s_retry_gives_the_first_outcome(
    store: Store, placed: Any, on_shift: Any, claim: Any
) -> None:
    await placed("o", **HALL)
    await on_shift("rita")
    first, again = await asyncio.gather(*(claim("o", "rita", action_id="a") for _ in range(2)))
    assert [first.replayed, again.replayed] == [False, True]
    assert (again.events, again.order) == (first.events, first.order)
    await store.run("o", Arrive(at_ms=NOW_MS + 2, rider_id="rita", stop=0))
    later = await claim("o", "rita", at_ms=NOW_MS + 9, action_id="a")
    assert (later.events, later.order) == (first.events, first.order)
    with pytest.raises(Conflict):
        await store.run("o", Accept(at_ms=NOW_MS, rider_id="rita", number=1), action_id="a")


async def test_a_refused_claim_may_win_when_the_order_is_back(
    store: Store, placed: Any, on_shift: Any, claim: Any
) -> None:
    await placed("o", **HALL)
    await on_shift("rita")
    await on_shift("rolf")
    await claim("o", "rita", action_id="a")
    assert (await claim("o", "rolf", action_id="b")).refusal.code == "already_taken"
    await store.run("o", DropOut(at_ms=NOW_MS + 2, rider_id="rita", number=1))
    assert (await claim("o", "rita")).refusal.code == "given_back"
    won = await claim("o", "rolf", action_id="b")
    assert (won.refusal, won.order.assignment.rider_id) == (None, "rolf")


async def test_who_is_not_eligible_is_told_why(
    store: Store, placed: Any, on_shift: Any, claim: Any
) -> None:
    await placed("o", skills=("frozen",), **HALL)
    await placed("plain")
    await on_shift("rita", capacity=(1,))
    await on_shift("cold", skills=("frozen",))
    await on_shift("far", city="other", skills=("frozen",))
    await on_shift("alien", tenant="alien", skills=("frozen",))
    await store.register_rider(Rider(id="home", city="demo"))

    async def code(order_id: str, rider_id: str, **more: Any) -> str:
        return str((await claim(order_id, rider_id, **more)).refusal.code)

    assert await code("o", "rita") == "lacks_skill"
    assert await code("o", "far") == "foreign_order"
    assert await code("o", "alien") == "foreign_order"  # his token must be of the order's tenant
    with pytest.raises(NotFound):
        await claim("o", "alien", tenant="alien")
    assert await code("o", "home") == await code("o", "nobody") == "not_on_shift"
    assert await code("o", "cold", at_ms=NOW_MS + 8 * HOUR_MS) == "expired"
    assert await code("plain", "rita") == "not_in_hall"
    assert (await claim("o", "cold")).refusal is None


async def test_a_rider_claims_no_more_than_the_policy_lets(
    store: Store, placed: Any, on_shift: Any, claim: Any
) -> None:
    await on_shift("rita")
    for name in "abcd":
        await placed(name, **HALL)
    done = await asyncio.gather(*(claim(name, "rita") for name in "abcd"))
    assert Counter(d.refusal and d.refusal.code for d in done) == {None: 3, "too_many_orders": 1}


async def test_each_city_has_the_limit_of_its_own_policy(
    migrated_url: str, store: Store, placed: Any, on_shift: Any
) -> None:
    await on_shift("rita")
    for name in "ab":
        await placed(name, **HALL)
    for orders_max, code in (({"demo": 1}, "too_many_orders"), ({"demo": 2, "bj": 1}, None)):
        own = await Store.open(migrated_url, hall_orders_max=orders_max)
        done = [
            await own.hall.claim(
                name, Claim(at_ms=NOW_MS, rider_id="rita"), tenant="default", city="demo",
                action_id=name,
            )
            for name in "ab"
        ]  # fmt: skip
        await own.close()
        assert [d.refusal and d.refusal.code for d in done] == [None, code]


async def test_a_claimed_order_goes_to_the_end_of_the_route(
    store: Store, placed: Any, accepted: Any, on_shift: Any, claim: Any
) -> None:
    await on_shift("rita")
    await accepted("z")
    await placed("a", **HALL)
    won = await claim("a", "rita")
    offered, taken = (event.fact for event in won.events)
    assert isinstance(offered, Offered)
    assert isinstance(taken, Accepted)
    assert offered.route == tuple(RouteStop(order_id=o, stop=i) for o in "za" for i in (0, 1))


async def test_an_order_that_nobody_claims_expires(
    store: Store,
    placed: Any,
    on_shift: Any,
    claim: Any,
    offer: Any,
) -> None:
    order = await placed("o", **HALL)
    await on_shift("rita")
    refused: Offer = offer(order)
    assert (await store.run("o", refused)).refusal.code == "in_hall"  # type: ignore[union-attr]
    assert [o.id for o in await store.hall.open_orders("default", "demo", NOW_MS)] == ["o"]
    gone = await store.run("o", Expire(at_ms=order.expires_at_ms))
    assert gone.order.state is OrderState.EXPIRED
    assert (await claim("o", "rita")).refusal.code == "not_open"
    assert await store.hall.open_orders("default", "demo", NOW_MS) == []
