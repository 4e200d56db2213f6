"""An order that nobody accepts expires when it should, on real servers."""

from dataclasses import replace

from sqlalchemy import text

from api.clock import now_ms


async def test_an_order_with_a_silent_rider_expires_when_his_last_offer_is_over(world, spoil):
    await world.rider("silent")
    await world.order("o")
    due_ms = now_ms() + 8_000
    await spoil(
        "UPDATE orders SET expires_at_ms = $1::bigint,"
        " body = jsonb_set(body, '{expires_at_ms}', to_jsonb($1::bigint)) WHERE id = 'o'",
        due_ms,
    )
    async with world.running(policy=replace(world.quick, offer_ms=1_500)):

        async def expired():
            return (await world.store.order("o")).state == "expired"

        await world.until(expired)
    async with world.store._engine.connect() as connection:
        rows = await connection.execute(
            text("SELECT kind, at_ms FROM events WHERE subject_id = 'o' ORDER BY seq")
        )
        events = [(row.kind, row.at_ms) for row in rows]
    offers = [at_ms for kind, at_ms in events if kind == "offered"]
    assert offers, "he was asked"
    assert max(offers) < due_ms
    assert [kind for kind, _ in events[-2:]] == ["timed_out", "expired"]
    assert events[-1][1] >= due_ms
