"""What a fault has hit serves again."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence
from bench.chaos.recovery import not_recovered


def services(evidence: Evidence) -> Iterator[Broken]:
    """Doors that stayed closed until the end, of faults after which there was time to open."""
    for fault, doors in not_recovered(evidence.logs):
        who = f"{fault['kind']} ({fault['twin']})"
        yield Broken("not_recovered", who, f"no answer to the end at {', '.join(doors)}")
