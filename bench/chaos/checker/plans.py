"""One dispatcher at a time: no offer of an earlier owner of the city after one of a later."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence


def stale(evidence: Evidence) -> Iterator[Broken]:
    """Each offer by the journal that has its round, in the order in which offers were written."""
    rounds = {(row["order_id"], row["number"]): row["round_at_ms"] for row in evidence.receipts}
    runs = sorted(evidence.runs, key=_started_ms)
    newest = -1
    for event in sorted(evidence.events, key=lambda event: int(event["id"])):
        if event["kind"] != "offered":
            continue
        offer = event["subject_id"], event["body"]["number"]
        owners = [n for n, run in enumerate(runs) if rounds.get(offer) in evidence.runs[run]]
        if not owners:  # no receipt, or a journal that was torn by a kill
            continue
        if max(owners) < newest:
            what = f"attempt {offer[1]} is of {runs[max(owners)]}, {runs[newest]} wrote before it"
            yield Broken("plans_stale", offer[0], what)
        newest = max(newest, min(owners))


def _started_ms(name: str) -> int:
    return int(name.rpartition("-")[2].partition(".")[0])
