"""What a door does once it is open; imports the geometry only."""

from __future__ import annotations

import asyncio

from geo.datum import warm_up


async def warm_up_after(ready: asyncio.Event) -> None:
    """The first conversion of a place takes half a second: begin it when the door is open."""
    await ready.wait()
    await asyncio.to_thread(warm_up)
