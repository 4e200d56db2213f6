"""Reads the evidence: PostgreSQL by SQL, segments and journals by msgpack, logs by JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import asyncpg
import msgpack

from bench.chaos.checker import search
from bench.chaos.checker.evidence import Evidence, Row, Run
from bench.chaos.logs import read_logs

_QUERIES = {
    "orders": "SELECT * FROM orders",
    "riders": "SELECT id, tenant, city, state, version FROM riders",
    "assignments": "SELECT order_id, number, rider_id, state FROM assignments",
    "events": "SELECT * FROM events ORDER BY id",
    "feed": "SELECT * FROM feed ORDER BY position",
    "outbox": "SELECT event_id FROM outbox",
    "heads": "SELECT city, position FROM heads",
    "receipts": "SELECT order_id, number, round_at_ms FROM receipts",
}
_TRANSFERS = "SELECT id, order_id, kind, debit, credit, fen FROM transfers"


async def gather(address: str, data: Path, redis: str = "") -> Evidence:
    """The evidence of a data folder, whose database answers at `address`, and its Redis."""
    evidence = Evidence(
        fixes=read_segments(data / "segments"),
        runs=read_journals(data / "journal"),
        logs=list(read_logs(data / "told")),
    )
    connection = await asyncpg.connect(address)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for name, query in _QUERIES.items():
                setattr(evidence, name, [_row(r) for r in await connection.fetch(query)])
            if await connection.fetchval("SELECT to_regclass('transfers')"):
                evidence.transfers = [_row(r) for r in await connection.fetch(_TRANSFERS)]
            evidence.in_clear += await search.tables(connection)
    finally:
        await connection.close()
    evidence.in_clear += search.files(data) + (await search.redis(redis) if redis else [])
    return evidence


def _row(record: Any) -> Row:
    row = dict(record)
    if isinstance(row.get("body"), str):
        row["body"] = json.loads(row["body"])
    return row


def read_segments(folder: Path) -> dict[tuple[str, int], set[int]]:
    """(rider, seq) -> the instants stored under it. A torn last record counts as missing."""
    found: dict[tuple[str, int], set[int]] = {}
    for path in sorted(folder.glob("*.seg")):
        with path.open("rb") as file:
            for record in msgpack.Unpacker(file, raw=False):
                if not isinstance(record, dict):
                    break
                for row in record["rows"]:
                    found.setdefault((row[0], row[1]), set()).add(row[2])
    return found


def read_journals(folder: Path) -> dict[str, Run]:
    """The runs of dispatchers, by journal. A torn last record counts as missing."""
    found: dict[str, Run] = {}
    for path in sorted(folder.glob("*.journal")):
        run = found[path.name] = Run(path.name.rpartition("-")[0], None, set())
        with path.open("rb") as file:
            for record in msgpack.Unpacker(file, raw=False, strict_map_key=False):
                if not isinstance(record, list):
                    break
                if record[0] == "plan":
                    run.plans.add(record[1])
                elif record[0] == "events" and run.first_position is None:
                    run.first_position = record[1] - len(record[2]) + 1
    return found
