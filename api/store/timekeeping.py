"""Keeps this process's time with that of PostgreSQL; may import SQLAlchemy, the clock and metrics.

All processes of a system share one database, so its clock is the one that they agree on.
"""

from __future__ import annotations

import asyncio

from prometheus_client import Counter
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from api.cancelling import end_if_cancelled
from api.clock import clock_jumps_ms, monotonic_s, share_clock
from api.metrics import Mode, degraded
from geo.errors import Unavailable

EVERY_S = 5.0
STEP_MS = 1_000.0
"""A clock that is off by more was set by somebody."""

_steps = Counter("hexrun_clock_steps_total", "Times that a clock was found set", ["clock"])
_NOW = text("SELECT extract(epoch FROM clock_timestamp()) * 1000")


async def ask_time(engine: AsyncEngine) -> None:
    """Compare with PostgreSQL once. Raises what the engine raises."""
    async with engine.connect() as connection:
        asked_s = monotonic_s()
        shown_ms = float((await connection.execute(_NOW)).scalar_one())
        half_ms = (monotonic_s() - asked_s) * 500
    share_clock(shown_ms + half_ms, half_ms)


async def keep_time(engine: AsyncEngine) -> None:
    """Compare every EVERY_S, without end; a set clock is a mode, counted once."""
    was_off = {"machine": False, "shared": False}
    while True:
        await asyncio.sleep(EVERY_S)
        try:
            await ask_time(engine)
        except (Unavailable, OSError, PoolTimeout, SQLAlchemyError):
            end_if_cancelled()  # whoever needs the database says that it is away
        ahead = dict(zip(was_off, clock_jumps_ms(), strict=True))
        for name, ms in ahead.items():
            is_off = abs(ms) > STEP_MS
            if is_off and not was_off[name]:
                _steps.labels(name).inc()
            was_off[name] = is_off
        degraded(
            Mode.CLOCK_JUMPED,
            any(was_off.values()),
            machine_ahead_ms=round(ahead["machine"]),
            shared_ahead_ms=round(ahead["shared"]),
        )
