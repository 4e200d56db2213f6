"""The keys of personal data at the command line: list them, add a new one, remove an old one."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import typer

from api.cli.database import open_store
from api.data_keys import KeyRing
from api.settings import data_keys_file
from geo.errors import InvalidValue


def list_keys(data: Path, as_json: bool = False) -> None:
    """Print every key, the newest last, and how many rows it encrypts."""
    ring = _ring(data)
    rows = asyncio.run(_rows(data))
    if as_json:
        found = [{"key": k, "rows": rows.pop(k, 0), "missing": False} for k in ring.ids]
        found += [{"key": k, "rows": n, "missing": True} for k, n in sorted(rows.items())]
        typer.echo(json.dumps({"data_keys": found}))
        return
    for key_id in ring.ids:
        typer.echo(f"{key_id:<16}{rows.pop(key_id, 0)}")
    for key_id, count in sorted(rows.items()):
        typer.echo(f"{key_id:<16}{count} (this key is missing)")


def rotate(data: Path) -> None:
    """Add a key. It encrypts from now on; the running system encrypts the older rows again."""
    added = _ring(data).rotate()
    typer.echo(f"{added} encrypts from now on; see `hexrun data-keys list` before removing another")


def remove(key_id: str, data: Path) -> None:
    """Remove a key by which nothing is encrypted any more."""
    ring = _ring(data)
    count = asyncio.run(_rows(data)).get(key_id, 0)
    if count:
        raise InvalidValue("key", key_id, f"a key without rows: it still encrypts {count}")
    ring.remove(key_id)
    typer.echo(f"{key_id} is removed")


def _ring(data: Path) -> KeyRing:
    return KeyRing(data_keys_file(os.environ, data))


async def _rows(data: Path) -> dict[str, int]:
    """Rows by key, as the running database has them."""
    async with open_store(data) as store:
        return await store.personal.keys_in_use()
