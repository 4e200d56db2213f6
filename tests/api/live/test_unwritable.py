"""One order that cannot be written does not stop its city."""

from prometheus_client import REGISTRY

from api.clock import now_ms
from api.dispatching.backoff import Backoff
from api.journal import PlanWritten, journals, read_journal
from api.replay import replay_folder


def failures():
    return REGISTRY.get_sample_value("hexrun_order_failures_total", {"city": "demo"}) or 0.0


async def test_an_order_without_its_hold_that_expires_leaves_the_city_alone(world, spoil):
    await world.order("bad")
    await spoil("DELETE FROM transfers WHERE order_id = 'bad'")
    await spoil(
        "UPDATE orders SET expires_at_ms = $1::bigint,"
        " body = jsonb_set(body, '{expires_at_ms}', to_jsonb($1::bigint)) WHERE id = 'bad'",
        now_ms() - 1_000,
    )
    before = failures()
    async with world.running():
        await world.until(lambda: failures() > before)
        await world.rider("r1")
        await world.order("good")
        assert await world.offered("good")
        assert (await world.store.order("bad")).state == "open"
    assert failures() == before + 1, "it rests"


async def test_an_offer_that_cannot_be_written_is_dropped_alone(world, spoil):
    """Its first attempt stands already. One rider: the others are not kept from him either."""
    for name in ("bad", "good", "fine"):
        await world.order(name)
    await spoil(
        "INSERT INTO assignments"
        " (order_id, number, rider_id, state, offered_at_ms, deadline_ms, route)"
        " VALUES ('bad', 1, 'nobody', 'declined', 1, 1, '[]')"
    )
    for name in ("r1", "r2", "r3"):
        await world.rider(name)
    before = failures()
    async with world.running():
        assert await world.offered("good")
        assert await world.offered("fine")
        await world.until(lambda: failures() > before)
        assert await world.attempt("bad") is None
    written = [
        record
        for path in journals(world.folder)
        for record in read_journal(path)
        if isinstance(record, PlanWritten)
    ]
    assert {pair for record in written for pair in record.dropped} == {("bad", "unwritable")}
    assert replay_folder(world.folder).ok


async def test_one_rider_is_not_kept_from_the_others(world, spoil):
    await world.order("bad")
    await spoil(
        "INSERT INTO assignments"
        " (order_id, number, rider_id, state, offered_at_ms, deadline_ms, route)"
        " VALUES ('bad', 1, 'nobody', 'declined', 1, 1, '[]')"
    )
    before = failures()
    async with world.running():
        await world.rider("r1")
        await world.until(lambda: failures() > before)
        await world.order("good")
        assert await world.offered("good", 8)


def test_an_order_rests_for_ever_longer_until_it_works(monkeypatch):
    now_s = 100.0
    monkeypatch.setattr("api.dispatching.backoff.monotonic_s", lambda: now_s)
    backoff, pauses = Backoff(), []
    for _ in range(7):
        assert not backoff.rests("o")
        pauses.append(backoff.failed("o"))
        assert backoff.rests("o")
        assert not backoff.rests("another")
        now_s += pauses[-1]
    assert pauses == [10, 20, 40, 80, 160, 300, 300]
    backoff.worked("o")
    assert backoff.failed("o") == 10
