"""What tells that PostgreSQL is away, in the words of our own errors; imports asyncpg."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import asyncpg

from geo.errors import Unavailable


def means_unavailable(sqlstate: str | None) -> bool:
    """No connection (08), too many (53300), the server stops or starts (57P01 to
    57P03), or a transaction was paused for too long (25P03)."""
    return (sqlstate or "").startswith(("08", "53300", "57P01", "57P02", "57P03", "25P03"))


@contextlib.contextmanager
def telling_unavailable(driver: asyncpg.Connection | None = None) -> Iterator[None]:
    """Unavailable instead of asyncpg's errors. A `driver` that has gone silent is cut at once:
    a goodbye, or the end of its transaction, would wait for it again."""
    try:
        yield
    except TimeoutError as error:
        if driver is not None:
            driver.terminate()
        raise Unavailable("PostgreSQL: no answer in time") from error
    except (OSError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"PostgreSQL: {error}") from error
    except asyncpg.PostgresError as error:
        if means_unavailable(error.sqlstate):
            raise Unavailable(f"PostgreSQL: {error}") from error
        raise
