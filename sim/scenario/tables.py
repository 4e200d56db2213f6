"""The tables of a scenario's demand as CSV, read and written; imports csv.

A table of rates has a column for each part of the day, named by the local time at which it begins
(`00:00`, `00:15`, ...); the other tables have a column for each key of a row.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from geo.errors import InvalidValue, MissingFile, UnknownKey
from sim.scenario.table import Doors, KnownMerchant, Rate
from sim.scenario.text import utf8_text

TABLES: dict[str, type[Rate] | type[Doors] | type[KnownMerchant]] = {
    "rates": Rate,
    "doors": Doors,
    "merchants": KnownMerchant,
}
Row = Rate | Doors | KnownMerchant
_DAY_MIN = 24 * 60


def read_table(name: str, path: Path) -> list[dict[str, Any]]:
    """The rows of the table `name` (one of TABLES), keys as in a scenario.

    Raises MissingFile, UnknownKey for a column that nothing reads, and InvalidValue, naming the
    file's line, for what is no number or is missing.
    """
    if not path.is_file():
        raise MissingFile(str(path), f"the table demand.{name}")
    lines = csv.DictReader(io.StringIO(utf8_text(path, "CSV"), newline=""))
    columns = tuple(lines.fieldnames or ())
    parts = _parts(columns) if name == "rates" else ()
    _check_columns(name, path, columns, parts)
    numbers = {f.name for f in fields(TABLES[name]) if f.type == "float"}
    return [_row(line, parts, numbers, f"{path.name}, line {lines.line_num}") for line in lines]


def table_text(name: str, rows: Iterable[Row]) -> str:
    """Rows of the table `name` as CSV; numbers with twelve digits at most."""
    rows, text = list(rows), io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    if name == "rates":
        count = max((len(row.per_h) for row in rows if isinstance(row, Rate)), default=1)
        out.writerow(["job_type", "weekday", "cell", *_begins(count)])
        for row in rows:
            assert isinstance(row, Rate)
            again = count // len(row.per_h)
            spread = [f"{rate:.6g}" for rate in row.per_h for _ in range(again)]
            out.writerow([row.job_type, row.weekday, row.cell, *spread])
        return text.getvalue()
    out.writerow([f.name for f in fields(TABLES[name])])
    for row in rows:
        values = asdict(row).values()
        out.writerow([f"{v:.12g}" if isinstance(v, float) else v for v in values])
    return text.getvalue()


def _begins(count: int) -> list[str]:
    """When each of `count` equal parts of the day begins."""
    minutes = [part * _DAY_MIN // count for part in range(count)]
    return [f"{m // 60:02d}:{m % 60:02d}" for m in minutes]


def _parts(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns that are parts of the day, if they are 1, 24 or 96 in order."""
    found = tuple(column for column in columns if ":" in column)
    return found if found and list(found) == _begins(len(found)) else ()


def _check_columns(name: str, path: Path, columns: Sequence[str], parts: Sequence[str]) -> None:
    known = [f.name for f in fields(TABLES[name]) if f.name != "per_h"]
    needed = [f.name for f in fields(TABLES[name]) if f.default is MISSING and f.name != "per_h"]
    for column in columns:
        if column not in known and column not in parts:
            expected = "one of " + ", ".join(known)
            if name == "rates":
                expected += ", or 1, 24 or 96 local times from 00:00 on"
            raise UnknownKey(f"demand.{name}, {path.name}", column, expected)
    missing = [column for column in needed if column not in columns]
    if name == "rates" and not parts:
        missing.append("00:00")
    if missing:
        raise InvalidValue(f"demand.{name}, {path.name}", list(columns), f"the column {missing[0]}")


def _row(
    line: dict[str, str | None], parts: Sequence[str], numbers: set[str], where: str
) -> dict[str, Any]:
    row: dict[str, Any] = {}
    for column, text in line.items():
        if text is None or column is None:
            raise InvalidValue(where, text, "as many values as columns")
        if column in parts:
            row.setdefault("per_h", []).append(_number(text, f"{where}, {column}"))
        elif column in numbers:
            row[column] = _number(text, f"{where}, {column}")
        else:
            row[column] = text
    return row


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidValue(where, text, "a number")
    return number
