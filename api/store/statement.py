"""One SQL statement made of several writes: a change costs one round trip; may import asyncpg.

PostgreSQL runs all parts of a `WITH` on one snapshot and the triggers at its end, so that an
order's row and its events are checked against each other whatever their order in the text. Equal
parts give an equal text, which asyncpg prepares once a connection.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.store.away import telling_unavailable

_PARAMETER = re.compile(r"\$(\d+)")


class Statement:
    """Parts `name AS (sql)`, whose parameters count from $1 each; `ask` runs them as one."""

    def __init__(self) -> None:
        self._parts: list[tuple[str, str, int]] = []
        self._values: list[Any] = []

    def add(self, name: str, sql: str, *values: Any) -> None:
        self._parts.append((name, sql, len(values)))
        self._values += values

    async def ask(self, driver: asyncpg.Connection, answer: str) -> list[Any]:
        """Run all parts; the rows of the query `answer`, which may read what the parts return."""
        with telling_unavailable(driver):
            rows: list[Any] = await driver.fetch(_joined(tuple(self._parts), answer), *self._values)
        return rows


@lru_cache(maxsize=256)
def _joined(parts: tuple[tuple[str, str, int], ...], answer: str) -> str:
    texts, first = [], 0
    for name, sql, count in parts:
        numbered = _PARAMETER.sub(lambda m, n=first: f"${int(m[1]) + n}", sql)  # type: ignore[misc]
        texts.append(f"{name} AS ({numbered})")
        first += count
    return f"WITH {', '.join(texts)} {answer}"


async def driver_of(connection: AsyncConnection) -> asyncpg.Connection:
    """asyncpg's own connection beneath, its transaction begun."""
    driver = (await connection.get_raw_connection()).driver_connection
    if not driver.is_in_transaction():  # type: ignore[union-attr]
        await connection.execute(text("SELECT 1"))
    return driver
