"""What a connection of the pool costs beside the statement; may import SQLAlchemy.

A ping before each use is three round trips for a statement's one. What was in use a moment ago is
believed; a server that is gone has closed its sockets, which this end sees without asking.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

from api.clock import monotonic_s

IDLE_MAX_S = 0.5


def replace_dead(engine: AsyncEngine) -> None:
    """Ping a connection that was idle for IDLE_MAX_S; a dead one is replaced before its use."""
    pool, dead = engine.sync_engine.pool, engine.sync_engine.dialect.loaded_dbapi.Error

    def idle(connection: Any, record: Any) -> None:
        record.info["idle_since_s"] = monotonic_s()

    def check(connection: Any, record: Any, proxy: object) -> None:
        since_s = record.info.get("idle_since_s")
        is_dead = connection.driver_connection.is_closed()
        if since_s is not None and not is_dead and monotonic_s() - since_s >= IDLE_MAX_S:
            try:
                connection.ping()
            except (dead, OSError):
                is_dead = True
        if is_dead:
            raise InvalidatePoolError("PostgreSQL has gone, or gone silent")

    event.listen(pool, "checkin", idle)
    event.listen(pool, "checkout", check)


def single_of(engine: AsyncEngine) -> AsyncEngine:
    """The same pool, for single statements: each is a transaction without BEGIN and COMMIT."""
    return engine.execution_options(isolation_level="AUTOCOMMIT")
