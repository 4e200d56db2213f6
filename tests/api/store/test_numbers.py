"""Masked numbers: one party of one order each, for as long as it is under way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.data_keys import KeyRing
from api.personal import Contact, OrderPersonal, RiderPersonal, StopPersonal
from api.store import Store
from api.store.numbers import REST_MS
from dispatch.commands import Accept, Cancel, DropOut, GoOnShift, Offer
from dispatch.model import Order, Party, Place
from geo.errors import InvalidValue

NOW_MS = 1_790_000_000_000
DAY_MS = 86_400_000
LATER_MS = NOW_MS + 3_600_000
SENDER, RECIPIENT, RIDER = "+8613866624446", "+8613977735557", "+8613755513335"
STRANGER = "+8613644402224"


@pytest.fixture
async def store(migrated_url: str, sql: asyncpg.Connection, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with three numbers to give."""
    opened = await Store.open(
        migrated_url,
        data_keys=KeyRing.open(tmp_path / "data-keys"),
        masked_numbers="+99900000007-+99900000009",
    )
    yield opened
    await opened.close()


@pytest.fixture
def served(
    store: Store,
    new_order: Callable[..., Order],
    offer: Callable[..., Offer],
    registered: Callable[..., Any],
) -> Callable[..., Any]:
    """An order with two contacts whose rider, with a phone, has accepted it."""

    async def make(order_id: str) -> Order:
        await registered("rita", RiderPersonal(name="Rita", phone=RIDER))
        here = Place(lat=31.23, lon=121.47)
        shift = GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + DAY_MS, place=here)
        await store.run_rider("rita", shift)
        order = new_order(order_id)
        phones = (SENDER, RECIPIENT)
        stops = tuple(StopPersonal(contact=Contact(phone=phone)) for phone in phones)
        sealed = store.personal.seal_order(order, OrderPersonal(stops=stops), NOW_MS)
        done = await store.create_order(order, NOW_MS, idempotency=None, personal=sealed)
        await store.run(order_id, offer(done.order))
        accept = Accept(at_ms=NOW_MS, rider_id="rita", number=1)
        outcome = await store.run(order_id, accept)
        assert outcome.refusal is None
        return outcome.order

    return make


async def test_a_number_reaches_the_party_for_the_other_parties_only(
    store: Store, served: Callable[..., Any]
) -> None:
    await served("a")
    numbers = {}
    for party in ("rider", "stop:0", "stop:1"):
        numbers[party] = await store.numbers.bind("a", party, NOW_MS, LATER_MS)
    assert sorted(numbers.values()) == [f"+9990000000{n}" for n in (7, 8, 9)]
    for party, caller, reached in (
        ("rider", RECIPIENT, RIDER),
        ("rider", SENDER, RIDER),
        ("stop:1", RIDER, RECIPIENT),
        ("stop:0", RIDER, SENDER),
        ("stop:1", RECIPIENT, None),
        ("rider", RIDER, None),
        ("rider", STRANGER, None),
        ("rider", "", None),
    ):
        assert await store.personal.relay(numbers[party], caller, NOW_MS) == reached
    assert await store.personal.relay("+99900000001", RIDER, NOW_MS) is None
    assert await store.personal.relay(numbers["rider"], SENDER, LATER_MS) is None


async def test_a_party_keeps_its_number_and_two_parties_never_share_one(
    store: Store, served: Callable[..., Any]
) -> None:
    await served("a")
    first = await store.numbers.bind("a", "rider", NOW_MS, LATER_MS)
    again = await asyncio.gather(
        *(store.numbers.bind("a", "rider", NOW_MS, LATER_MS + 1) for _ in range(5)),
        *(store.numbers.bind("a", "stop:0", NOW_MS, LATER_MS) for _ in range(5)),
    )
    assert set(again[:5]) == {first}
    assert len(set(again[5:])) == 1
    assert again[5] != first
    assert await store.personal.relay(first, SENDER, LATER_MS) == RIDER


async def test_it_reaches_nobody_once_the_order_has_ended(
    store: Store, served: Callable[..., Any]
) -> None:
    await served("a")
    number = await store.numbers.bind("a", "rider", NOW_MS, LATER_MS)
    assert await store.numbers.release_ended(NOW_MS) == 0
    done = await store.run("a", Cancel(at_ms=NOW_MS, by=Party.CUSTOMER, reason=""))
    assert done.refusal is None
    assert await store.personal.relay(number, SENDER, NOW_MS) is None
    assert await store.numbers.release_ended(NOW_MS) == 1
    assert await store.numbers.release_ended(NOW_MS) == 0


async def test_a_rider_who_has_dropped_out_is_not_reached(
    store: Store, served: Callable[..., Any]
) -> None:
    await served("a")
    number = await store.numbers.bind("a", "stop:1", NOW_MS, LATER_MS)
    done = await store.run(
        "a", DropOut(at_ms=NOW_MS, rider_id="rita", number=1, reason="flat tyre")
    )
    assert done.refusal is None
    assert await store.personal.relay(number, RIDER, NOW_MS) is None


async def test_a_number_rests_before_it_serves_another_order(
    store: Store, served: Callable[..., Any]
) -> None:
    for order_id in "abcd":
        await served(order_id)
    given = [await store.numbers.bind(o, "rider", NOW_MS, LATER_MS) for o in "abc"]
    assert len(set(given)) == 3
    assert await store.numbers.bind("d", "rider", NOW_MS, LATER_MS) is None
    assert await store.numbers.release("b", NOW_MS) == 1
    rested_ms = NOW_MS + REST_MS
    assert await store.numbers.bind("d", "rider", rested_ms - 1, LATER_MS) is None
    assert await store.numbers.bind("d", "rider", rested_ms, LATER_MS) == given[1]
    assert await store.numbers.bind("b", "rider", rested_ms, LATER_MS) is None


async def test_an_expired_number_goes_back(store: Store, served: Callable[..., Any]) -> None:
    for order_id in "abcd":
        await served(order_id)
    for order_id in "abc":
        await store.numbers.bind(order_id, "rider", NOW_MS, LATER_MS)
    number = await store.numbers.bind("d", "rider", LATER_MS + REST_MS, LATER_MS + DAY_MS)
    assert number is not None
    assert await store.numbers.release_ended(LATER_MS + REST_MS) == 0


@pytest.mark.parametrize(
    "block",
    ["", "+99900000009-+99900000007", "99900000007-99900000009", "+99900000000-+99999999999"],
)
async def test_a_block_that_is_none(migrated_url: str, block: str) -> None:
    with pytest.raises(InvalidValue, match="HEXRUN_MASKED_NUMBERS"):
        await Store.open(migrated_url, masked_numbers=block)
