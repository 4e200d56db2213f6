"""Every event reaches every endpoint at least once, and an order's events in their order."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence, Row


def delivered(evidence: Evidence) -> Iterator[Broken]:
    """Receipts that were answered well against the feed of the endpoint's tenant and city.

    The endpoints are made before anything else of their tenant, so all of it is theirs.
    """
    events = {event["id"]: event for event in evidence.events}
    owners = {row["position"]: events.get(row["event_id"]) for row in evidence.feed}
    receipts: dict[str, list[Row]] = {}
    for line in evidence.told("receipt"):
        if line["answer"] == 200:
            receipts.setdefault(line["endpoint"], []).append(line)
    for made in evidence.told("endpoint"):
        endpoint, theirs = made["endpoint"], (made["tenant"], made["city"])
        taken: dict[str, set[str]] = {}
        positions: set[int] = set()
        newest: dict[tuple[str, str], int] = {}
        for line in receipts.get(endpoint, []):
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
        for row in evidence.feed:
            event = owners[row["position"]]
            if (row["tenant"], row["city"]) != theirs or event is None:
                continue
            if row["position"] not in positions:
                what = f"{endpoint} never got {event['subject_id']} {event['seq']} {event['kind']}"
                yield Broken("webhooks_lost", str(row["position"]), what)
