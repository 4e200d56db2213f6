"""Every event reaches every endpoint at least once, and an order's events in their order."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence


def delivered(evidence: Evidence) -> Iterator[Broken]:
    """Receipts that were answered well against the feed of the endpoints' tenant.

    The endpoints are made before anything else of their tenant, so all of it is theirs.
    """
    endpoints = [line["endpoint"] for line in evidence.told("endpoint")]
    if not endpoints:
        return
    events = {event["id"]: event for event in evidence.events}
    theirs = next((line["tenant"] for line in evidence.told("endpoint") if "tenant" in line), "")
    feed = [row["position"] for row in evidence.feed if row["tenant"] == theirs]
    owners = {row["position"]: events[row["event_id"]] for row in evidence.feed}
    for endpoint in endpoints:
        taken: dict[str, set[str]] = {}
        positions: set[int] = set()
        newest: dict[tuple[str, str], int] = {}
        for line in evidence.told("receipt"):
            if line["endpoint"] != endpoint or line["answer"] != 200:
                continue
            subject = line["subject"], line["id"]
            seen = taken.setdefault(line["id"], set())
            if line["event_id"] in seen:
                continue
            seen.add(line["event_id"])
            positions.add(line["position"])
            if line["seq"] < newest.get(subject, 0):
                what = f"{endpoint} got seq {line['seq']} after {newest[subject]}"
                yield Broken("webhooks_disordered", line["id"], what)
            newest[subject] = max(line["seq"], newest.get(subject, 0))
        for position in feed:
            if position not in positions:
                event = owners[position]
                what = f"{endpoint} never got {event['subject_id']} {event['seq']} {event['kind']}"
                yield Broken("webhooks_lost", str(position), what)
