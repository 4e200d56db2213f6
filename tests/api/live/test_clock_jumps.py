"""A dispatcher process whose clock is set by an hour, by libfaketime, while offers are open."""

import asyncio
from pathlib import Path

from dispatch.model import AssignmentState, OrderState

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


async def test_a_set_clock_ends_no_offer_and_no_order(world, tmp_path):
    """It starts half an hour wrong as well: the database knows better."""
    assert FAKETIME.is_file(), "install Debian's faketime, as `make test` does"
    stamp = tmp_path / "stamp"
    stamp.write_text("+1800")
    faked = {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(stamp),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    await world.rider("r1")
    await world.rider("r2", lat=31.2301)
    async with world.process(**faked) as child:
        await world.order("waits")  # its offer stays open
        first = await world.offered("waits", 90)
        order = await world.store.order("waits")
        assert abs(first.offered_at_ms - order.created_at_ms) < 120_000
        for n, step in enumerate(("+3600", "-3600")):
            stamp.write_text(step)
            await world.order(f"o{n}")
            offered = await world.offered(f"o{n}")
            await world.accept(f"o{n}")
            assert 0 <= offered.offered_at_ms - first.offered_at_ms < 120_000
        await asyncio.sleep(1.0)
        waits = await world.store.order("waits")
        assert waits.state is OrderState.OPEN
        assert waits.attempts == 1, "its offer has not timed out"
        assert waits.assignment.state is AssignmentState.OFFERED
        assert child.returncode is None
