"""Searches tables, Redis and files for the markers of personal data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import asyncpg
from redis.asyncio import Redis

from bench.chaos.markers import MARKERS

# PostgreSQL shows bytes in hexadecimal, and so do tracebacks of some drivers.
PATTERN = "|".join(re.escape(form) for m in MARKERS for form in (m, m.encode().hex()))
FOLDERS = ("segments", "journal", "logs")

_TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n
ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%'
"""
_READ = {
    b"none": lambda redis, key: redis.get(key),  # it has just expired
    b"string": lambda redis, key: redis.get(key),
    b"hash": lambda redis, key: redis.hgetall(key),
    b"set": lambda redis, key: redis.smembers(key),
    b"list": lambda redis, key: redis.lrange(key, 0, -1),
    b"zset": lambda redis, key: redis.zrange(key, 0, -1),
    b"stream": lambda redis, key: redis.xrange(key),
}


async def tables(connection: asyncpg.Connection) -> list[tuple[str, int]]:
    """(table, rows with a marker)."""
    found = []
    for (table,) in await connection.fetch(_TABLES):
        query = f"SELECT count(*) FROM {table} AS t WHERE t::text ~ $1"
        found.append((table, int(await connection.fetchval(query, PATTERN))))
    return [(table, count) for table, count in found if count]


async def redis(url: str) -> list[tuple[str, int]]:
    """(key, markers in it)."""
    found = []
    client: Any = Redis.from_url(url)
    try:
        async for key in client.scan_iter(count=1000):
            held = repr((key, await _READ[await client.type(key)](client, key)))
            found.append((f"redis {key!r}", len(re.findall(PATTERN, held))))
    finally:
        await client.aclose()
    return [(key, count) for key, count in found if count]


def files(data: Path) -> list[tuple[str, int]]:
    """(file, markers in it) of the data folder."""
    pattern = re.compile(PATTERN.encode())
    paths = [path for folder in FOLDERS for path in sorted((data / folder).glob("*"))]
    found = [(str(path.relative_to(data)), pattern.findall(path.read_bytes())) for path in paths]
    return [(name, len(places)) for name, places in found if places]
