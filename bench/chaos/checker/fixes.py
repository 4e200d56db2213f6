"""Every acknowledged fix is in the segments."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence


def lost(evidence: Evidence) -> Iterator[Broken]:
    """Acknowledgements are cumulative: all that the phone recorded up to the number is stored."""
    acked: dict[str, int] = {}
    for line in evidence.told("fix_acked"):
        acked[line["rider"]] = max(line["seq"], acked.get(line["rider"], -1))
    for line in evidence.told("fix"):
        rider, seq = line["rider"], line["seq"]
        if seq <= acked.get(rider, -1):
            stored = evidence.fixes.get((rider, seq))
            if stored is None:
                yield Broken("fixes_lost", rider, f"fix {seq} was acknowledged")
            elif line["at_ms"] not in stored:
                yield Broken("fixes_lost", rider, f"fix {seq} is stored as another one")
