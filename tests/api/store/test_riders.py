"""Riders in the store: registered once, on and off shift, and never off with an order in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from api.store import Store
from dispatch.commands import Accept, Cancel, GoOffShift, GoOnShift, Offer
from dispatch.model import Party, Place, Rider, RiderState
from geo.errors import Conflict, NotFound

NOW_MS = 1_790_000_000_000
HERE = Place(lat=31.23, lon=121.47, system="gcj02")
ON = GoOnShift(at_ms=NOW_MS, shift_end_ms=NOW_MS + 3_600_000, place=HERE)
OFF = GoOffShift(at_ms=NOW_MS + 5)
RITA = Rider(id="rita", city="demo", skills=("cold",), capacity=(3, 2))


async def test_registering(store: Store) -> None:
    shifted = replace(RITA, state=RiderState.ON, version=7, place=HERE)
    assert await store.register_rider(shifted) == RITA  # a registration is not a shift
    assert await store.register_rider(RITA) == RITA
    faster = replace(RITA, speed_mps=6.5)
    assert await store.register_rider(faster) == faster
    assert await store.rider("rita") == faster
    for other in (replace(RITA, tenant="else"), replace(RITA, city="else")):
        with pytest.raises(Conflict, match="another tenant or city"):
            await store.register_rider(other)


async def test_who_is_on_shift_stays_what_he_is(store: Store) -> None:
    await store.register_rider(RITA)
    on = (await store.run_rider("rita", ON)).rider
    assert await store.register_rider(RITA) == on
    with pytest.raises(Conflict, match="on shift"):
        await store.register_rider(replace(RITA, vehicle="car"))
    assert await store.rider("rita") == on


async def test_many_registrations_at_once(store: Store) -> None:
    assert set(await asyncio.gather(*(store.register_rider(RITA) for _ in range(10)))) == {RITA}


async def test_a_shift(store: Store, sql: asyncpg.Connection) -> None:
    await store.register_rider(RITA)
    on = await store.run_rider("rita", ON)
    assert on.rider == replace(
        RITA, state=RiderState.ON, shift_end_ms=ON.shift_end_ms, place=HERE, version=1
    )
    assert await store.riders_on_shift("demo") == [on.rider]
    assert await store.count_riders_on_shift("demo") == 1
    assert await store.count_riders_on_shift("demo", tenant="default") == 1
    assert await store.count_riders_on_shift("demo", tenant="else") == 0
    again = await store.run_rider("rita", ON)
    assert again.refusal is not None
    assert again.refusal.code == "already_on_shift"
    off = await store.run_rider("rita", OFF)
    assert off.rider.state is RiderState.OFF
    assert await store.riders_on_shift("demo") == []
    assert await store.riders_on_shift("elsewhere") == []
    rows = await sql.fetch("SELECT subject_kind, subject_id, seq, kind FROM events ORDER BY id")
    assert [tuple(r) for r in rows] == [
        ("rider", "rita", 1, "went_on_shift"),
        ("rider", "rita", 2, "went_off_shift"),
    ]


async def test_who_has_an_order_stays_on_shift(
    store: Store, placed: Callable[..., Any], offer: Callable[..., Offer]
) -> None:
    await store.register_rider(RITA)
    await store.run_rider("rita", ON)
    await store.run("o1", offer(await placed("o1")))
    assert [o.id for o in await store.orders_of_rider("rita")] == ["o1"]
    # An offer that is not answered does not hold her.
    assert (await store.run_rider("rita", OFF)).refusal is None
    await store.run_rider("rita", ON)
    await store.run("o1", Accept(at_ms=NOW_MS, rider_id="rita", number=1))
    refused = await store.run_rider("rita", OFF)
    assert refused.refusal is not None
    assert refused.refusal.code == "has_orders"
    await store.run("o1", Cancel(at_ms=NOW_MS, by=Party.CUSTOMER))
    assert await store.orders_of_rider("rita") == []
    assert (await store.run_rider("rita", OFF)).refusal is None


async def test_accepting_and_going_off_at_once(
    store: Store, placed: Callable[..., Any], offer: Callable[..., Offer]
) -> None:
    await store.register_rider(RITA)
    for n in range(8):
        await store.run_rider("rita", ON)
        order = await placed(f"o{n}")
        await store.run(order.id, offer(order))
        accepted, off = await asyncio.gather(
            store.run(order.id, Accept(at_ms=NOW_MS, rider_id="rita", number=1)),
            store.run_rider("rita", OFF),
        )
        assert (accepted.refusal is None) != (off.refusal is None)
        await store.run(order.id, Cancel(at_ms=NOW_MS, by=Party.CUSTOMER))


async def test_unknown_riders(store: Store) -> None:
    for rider_id in ("nobody", "zero\0"):
        assert await store.rider(rider_id) is None
        with pytest.raises(NotFound):
            await store.run_rider(rider_id, OFF)
