"""What was wrong with a log, by row and by kind; imports the errors only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from geo.errors import InvalidValue

SHOWN = 20
"""Of each kind so many findings are kept in full; the others are counted."""


class Bad(StrEnum):
    """What becomes of a log with bad rows: it is refused, or they are left out."""

    STOP = "stop"
    DROP = "drop"


class Kind(StrEnum):
    """In what way a row, or a column of a file, is bad."""

    UNKNOWN_COLUMN = "unknown_column"
    CELLS = "cells"
    HOLE = "hole"
    NOT_A_NUMBER = "not_a_number"
    NOT_A_TIME = "not_a_time"
    OUT_OF_RANGE = "out_of_range"
    UNKNOWN_NAME = "unknown_name"
    ANOTHER_ZONE = "another_zone"
    DUPLICATE_ID = "duplicate_id"
    OUT_OF_ORDER = "out_of_order"
    SWAPPED = "swapped_coordinates"
    OUTSIDE = "outside_the_city"
    PROMISE_BEFORE_PLACEMENT = "promise_before_placement"
    PICKUP_BEFORE_PLACEMENT = "pickup_before_placement"
    DROP_OFF_BEFORE_PICKUP = "drop_off_before_pickup"
    OFF_BEFORE_ON = "off_before_on"


@dataclass(frozen=True, slots=True)
class Finding:
    """Row `row` has `value` in `column`, which cannot be right; `expected` says what would be.

    A row of a CSV file is a line (its header is line 1), that of a Parquet file counts from 1.
    """

    kind: Kind
    row: int
    column: str
    value: str
    expected: str

    def __str__(self) -> str:
        return f"row {self.row}, {self.column}: {self.value!r}, expected {self.expected}"


@dataclass(slots=True)
class Report:
    """One file: its `rows`, those `kept`, what was bad by kind, and what was mended by name."""

    file: str
    rows: int = 0
    kept: int = 0
    bad_rows: int = 0
    bad: Counter[Kind] = field(default_factory=Counter)
    first: dict[Kind, list[Finding]] = field(default_factory=dict)
    mended: Counter[str] = field(default_factory=Counter)

    @property
    def good(self) -> bool:
        """Nothing had to be dropped."""
        return not self.bad

    def add(self, finding: Finding) -> None:
        """One more finding; the first of each kind are kept in full."""
        self.bad[finding.kind] += 1
        shown = self.first.setdefault(finding.kind, [])
        if len(shown) < SHOWN:
            shown.append(finding)

    def as_dict(self) -> dict[str, Any]:
        """For programs: counts, and the first findings of each kind."""
        return {
            "file": self.file,
            "rows": self.rows,
            "kept": self.kept,
            "bad_rows": self.bad_rows,
            "bad": {kind.value: self.bad[kind] for kind in self.bad},
            "mended": dict(self.mended),
            "first": {
                kind.value: [
                    {"row": f.row, "column": f.column, "value": f.value, "expected": f.expected}
                    for f in found
                ]
                for kind, found in self.first.items()
            },
        }

    def lines(self) -> Iterator[str]:
        """For people: the counts, then the first findings of each kind."""
        yield f"{self.file}: {self.rows} rows, {self.bad_rows} of them bad"
        for name, count in self.mended.items():
            yield f"  mended: {count} {name}"
        for kind, count in self.bad.items():
            shown = self.first[kind]
            more = f", the first {len(shown)}" if count > len(shown) else ""
            yield f"  {kind}: {count}{more}"
            for finding in shown:
                yield f"    {finding}"


class BadLog(InvalidValue):
    """A log with bad rows, which was not to be read without them; `report` says which."""

    def __init__(self, report: Report) -> None:
        self.report = report
        what = ", ".join(f"{count} {kind}" for kind, count in report.bad.items())
        super().__init__(report.file, what, "a log without (or leave bad rows out: --bad drop)")
        self.args = ("\n".join(report.lines()) + "\nleave the bad rows out with --bad drop",)
