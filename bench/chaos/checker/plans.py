"""One dispatcher at a time: no offer of an earlier owner of the city after one of a later."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence


def stale(evidence: Evidence) -> Iterator[Broken]:
    """Each city's offers by the journal that has the round, in the order in which they came."""
    for city in sorted({run.city for run in evidence.runs.values()}):
        yield from _of_city(evidence, city)


def _of_city(evidence: Evidence, city: str) -> Iterator[Broken]:
    rounds = {(row["order_id"], row["number"]): row["round_at_ms"] for row in evidence.receipts}
    # By what they were told, not by their clocks, which faults step.
    runs = sorted(
        (run.first_position, name)
        for name, run in evidence.runs.items()
        if run.city == city and run.first_position is not None
    )
    newest = -1
    for event in sorted(evidence.events, key=lambda event: int(event["id"])):
        if event["kind"] != "offered" or event["city"] != city:
            continue
        offer = event["subject_id"], event["body"]["number"]
        round_ms = rounds.get(offer)
        owners = [n for n, (_, name) in enumerate(runs) if round_ms in evidence.runs[name].plans]
        if not owners:  # of the hall, or a journal that was torn by a kill
            continue
        if max(owners) < newest:
            late, other = runs[max(owners)][1], runs[newest][1]
            what = f"attempt {offer[1]} is of {late}, {other} wrote before it"
            yield Broken("plans_stale", offer[0], what)
        newest = max(newest, min(owners))
