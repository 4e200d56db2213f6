"""Backs the live system up while it runs, and restores it; may import the store and supervisor.

A backup is a folder: `database.dump` (one consistent moment, in the custom format of pg_dump),
`segments/` and `journal/` as far as they were written, `settings/` and `manifest.json` with every
file's size and SHA-256, written last. Secrets and data keys are in it only when asked for: whoever
holds both a backup and the keys can read everything.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from api.clock import now_ms
from api.store import migrate
from api.store.restoring import begin_again, check_empty, describe, for_libpq, forget_keys
from api.supervisor import (
    DataFolder,
    Service,
    Supervisor,
    postgres_account,
    postgres_programs,
    running_postgres,
    server_services,
)
from api.supervisor.embedded import POSTGRES_VARIABLE
from geo.errors import Conflict, FolderInUse, InvalidValue, MissingFile, StartupError

FORMAT = 1
MANIFEST = "manifest.json"
DUMP = "database.dump"
FOLDERS = ("segments", "journal")
SETTINGS = ("city", "dispatch.yaml")
SECRET = "secret"
KEYS = (SECRET, "data-keys")
CHUNK_BYTES = 1 << 20


async def backup(data: Path, target: Path, *, with_keys: bool = False) -> dict[str, Any]:
    """Write a backup of the system on `data` into the new folder `target`; gives its manifest.

    Works while the system runs, and when it does not.

    Raises:
        Conflict: `target` exists.
        StartupError: there is no server to back up, or pg_dump failed.
    """
    if not os.environ.get(POSTGRES_VARIABLE) and not (data / "postgres").is_dir():
        raise MissingFile(str(data / "postgres"), "a backup of this data folder")
    if target.exists():
        raise Conflict(f"{target} exists: a backup goes into a new folder")
    draft = target.with_name(target.name + ".partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True, mode=0o700)
    async with _database(data) as url:
        facts = await describe(url)
        await _run("pg_dump", ["--format=custom", f"--file={draft / DUMP}"], url, data)
    files = {DUMP: _digest(draft / DUMP)}
    for name in _files(data, with_keys):
        files[name] = await asyncio.to_thread(_copy, data / name, draft / name)
    manifest = {"format": FORMAT, "made_at_ms": now_ms(), **facts, "files": files}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    draft.rename(target)
    return manifest


async def restore(source: Path, data: Path, *, revoke: bool = False) -> dict[str, Any]:
    """Restore the backup `source` into the new data folder `data`; gives the manifest.

    The database is the folder's own, or the empty one that `HEXRUN_POSTGRES_URL` names. An older
    release's tables are brought up to date. What was revoked after the backup is good again,
    unless all is to be over: with `revoke` API keys are deleted, and the secret stays out.

    Raises:
        MissingFile: `source` is no backup, or lacks a file.
        InvalidValue: a file is not as it was written.
        Conflict: `data` or the database is not empty.
        StartupError: pg_restore failed.
    """
    manifest = await asyncio.to_thread(_checked, source)
    if data.exists() and any(data.iterdir()):
        raise Conflict(f"{data} is not empty: restore into a new folder")
    data.mkdir(parents=True, exist_ok=True)
    async with _database(data) as url:
        await check_empty(url)
        options = ["--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges"]
        await _run("pg_restore", [*options, str(source / DUMP)], url, data)
        await migrate(url)
        await begin_again(url, now_ms())
        if revoke:
            await forget_keys(url)
    for name in manifest["files"]:
        if name != DUMP and not (revoke and name == SECRET):
            await asyncio.to_thread(_copy, source / name, data / name)
    return manifest


# --- the database -----------------------------------------------------------------------------


@asynccontextmanager
async def _database(data: Path) -> AsyncIterator[str]:
    """The address of the named server, of the folder's running one, or of one started for this."""
    named = os.environ.get(POSTGRES_VARIABLE)
    if named:
        yield named
        return
    try:
        folder = DataFolder(data)
    except FolderInUse:
        yield running_postgres(data)
        return
    with folder:
        postgres = _postgres(folder)
        supervisor = Supervisor(folder, [postgres], handle_signals=False)
        await supervisor.start()
        try:
            assert postgres.server is not None
            yield postgres.server.url
        finally:
            await supervisor.stop()


def _postgres(folder: DataFolder) -> Service:
    return next(s for s in server_services(folder) if s.name == "postgres")


async def _run(program: str, options: list[str], url: str, data: Path) -> None:
    folder = await asyncio.to_thread(postgres_programs, postgres_account(), data.resolve())
    address, password = for_libpq(url)
    process = await asyncio.create_subprocess_exec(
        str(folder / program),
        *options,
        f"--dbname={address}",
        env={**os.environ, **({"PGPASSWORD": password} if password else {})},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await process.communicate()
    except asyncio.CancelledError:
        process.terminate()
        await process.wait()
        raise
    if process.returncode != 0:
        raise StartupError(f"{program} ended with {process.returncode}: {errors.decode().strip()}")


# --- the files --------------------------------------------------------------------------------


def _files(data: Path, with_keys: bool) -> Iterator[str]:
    for folder in FOLDERS:
        for path in sorted((data / folder).rglob("*")):
            if path.is_file():
                yield str(path.relative_to(data))
    for name in (*SETTINGS, *(KEYS if with_keys else ())):
        if (data / name).is_file():
            yield name


def _copy(source: Path, target: Path) -> dict[str, object]:
    """Copy what the file holds now: segments and journals only grow, and readers stop at a tear."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    left = source.stat().st_size
    digest, size = hashlib.sha256(), left
    with source.open("rb") as old, open(_private(target), "wb") as new:
        while left and (chunk := old.read(min(CHUNK_BYTES, left))):
            digest.update(chunk)
            new.write(chunk)
            left -= len(chunk)
        new.flush()
        os.fsync(new.fileno())
    return {"bytes": size - left, "sha256": digest.hexdigest()}


def _private(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)


def _digest(path: Path) -> dict[str, object]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": sha256}


def _checked(source: Path) -> dict[str, Any]:
    """The manifest of a backup whose files are all as they were written."""
    try:
        manifest: dict[str, Any] = json.loads((source / MANIFEST).read_text())
    except FileNotFoundError:
        raise MissingFile(str(source / MANIFEST), "the manifest of a whole backup") from None
    except ValueError as error:
        raise InvalidValue(str(source / MANIFEST), str(error), "JSON") from None
    if manifest.get("format") != FORMAT:
        raise InvalidValue("format", manifest.get("format"), f"{FORMAT}, which this release reads")
    for name, written in manifest["files"].items():
        path = source / name
        if not path.resolve().is_relative_to(source.resolve()):
            raise InvalidValue(str(source / MANIFEST), name, "a file inside the backup")
        if not path.is_file():
            raise MissingFile(str(path), "a file of the backup")
        if _digest(path) != written:
            raise InvalidValue(str(path), "another content", f"SHA-256 {written['sha256']}")
    return manifest
