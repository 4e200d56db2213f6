"""Nothing personal lies in the clear, in tables, in Redis, in files."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence


def in_clear(evidence: Evidence) -> Iterator[Broken]:
    """Everything that the search for the markers has found."""
    for where, count in evidence.in_clear:
        yield Broken("personal_in_clear", where, f"in {count} places")
