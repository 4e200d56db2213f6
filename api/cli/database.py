"""The store of the system that runs, for commands beside it; may import the store, supervisor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from api.store import UNAVAILABLE, Store
from api.supervisor import no_postgres, running_postgres


@asynccontextmanager
async def open_store(data: Path) -> AsyncIterator[Store]:
    """Without keys of personal data. Raises StartupError when no PostgreSQL answers."""
    try:
        store = await Store.open(running_postgres(data))
    except UNAVAILABLE:
        raise no_postgres(data) from None
    try:
        yield store
    finally:
        await store.close()
