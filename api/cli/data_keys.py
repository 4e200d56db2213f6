"""The keys of personal data at the command line: list them, add a new one, remove an old one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import quote

import typer

from api.data_keys import KeyRing
from api.settings import data_keys_file
from api.store import UNAVAILABLE, Store
from api.supervisor.folder import socket_folders
from geo.errors import InvalidValue, StartupError


def list_keys(data: Path) -> None:
    """Print every key, the newest last, and how many rows it encrypts."""
    ring = _ring(data)
    rows = asyncio.run(_rows(data))
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
    for url in _addresses(data):
        try:
            store = await Store.open(url)
        except UNAVAILABLE:
            continue
        try:
            return await store.personal.keys_in_use()
        finally:
            await store.close()
    raise StartupError(f"no PostgreSQL answers for {data}: is it up? Else set HEXRUN_POSTGRES_URL")


def _addresses(data: Path) -> list[str]:
    given = os.environ.get("HEXRUN_POSTGRES_URL")
    if given:
        return [given]
    found = [folder / "pg" for folder in socket_folders(data)]
    return [
        f"postgresql+asyncpg://hexrun@/hexrun?host={quote(str(folder))}"
        for folder in found
        if folder.is_dir()
    ]
