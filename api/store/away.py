"""What tells that PostgreSQL is away, in the words of our own errors; imports asyncpg."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import asyncpg

from geo.errors import Unavailable


def means_unavailable(sqlstate: str | None) -> bool:
    """No connection (08), too many of them or no room on the disk (53), the server stops or starts
    (57P01 to 57P03), only reads (25006), paused a transaction for too long (25P03), or broke it
    off (57014, and 40P01: two that waited for each other). The same may work a little later."""
    return (sqlstate or "").startswith(
        ("08", "53", "57P01", "57P02", "57P03", "25006", "25P03", "57014", "40P01")
    )


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
