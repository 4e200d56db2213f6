"""Every event stands in the feed once, in order, and whoever reads the feed sees every one."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence


def whole(evidence: Evidence) -> Iterator[Broken]:
    """The feed against the events; once the run is quiet the outbox is empty."""
    events = {event["id"]: event for event in evidence.events}
    placed = {row["event_id"] for row in evidence.feed}
    waiting = {row["event_id"] for row in evidence.outbox}
    for event_id in sorted(events.keys() - placed):
        where = "still waits" if event_id in waiting else "has no position and does not wait"
        yield Broken("events_lost", str(event_id), f"{_shown(events[event_id])} {where}")
    if len(placed) != len(evidence.feed):
        yield Broken("events_lost", "feed", "an event has two positions")
    last: dict[str, int] = {}
    seqs: dict[tuple[str, str], int] = {}
    for row in evidence.feed:
        event = events.get(row["event_id"])
        position = row["position"]
        if event is None:
            yield Broken("events_lost", str(position), "a position without an event")
            continue
        if row["prev_position"] != last.get(row["city"], 0):
            what = f"follows {last.get(row['city'], 0)}, says {row['prev_position']}"
            yield Broken("feed_broken", str(position), what)
        last[row["city"]] = position
        subject = event["subject_kind"], event["subject_id"]
        if event["seq"] != seqs.get(subject, 0) + 1 and event["id"] in placed:
            what = f"{_shown(event)} follows seq {seqs.get(subject, 0)}"
            yield Broken("feed_broken", str(position), what)
        seqs[subject] = event["seq"]
    for row in evidence.heads:
        if row["position"] != last.get(row["city"], 0):
            what = f"ends at {last.get(row['city'], 0)}, its head says {row['position']}"
            yield Broken("feed_broken", row["city"], what)


def read(evidence: Evidence) -> Iterator[Broken]:
    """What an integrator saw in each city against the feed of his tenant, up to where he came."""
    seen: dict[str, list[int]] = {}
    for line in evidence.told("event"):
        seen.setdefault(line["city"], []).append(line["position"])
    for city, positions in seen.items():
        of_city = [row for row in evidence.feed if row["city"] == city]
        tenant = next(r["tenant"] for r in of_city if r["position"] == positions[0])
        all_his = [
            row["position"]
            for row in of_city
            if row["tenant"] == tenant and row["position"] <= positions[-1]
        ]
        if positions != all_his:
            missing = sorted(set(all_his) - set(positions))[:5]
            what = f"saw {len(positions)} of {len(all_his)} events, missing {missing}"
            yield Broken("events_lost", f"integrator of {city}", what)


def _shown(event: dict[str, object]) -> str:
    return f"{event['subject_kind']} {event['subject_id']} {event['seq']} {event['kind']}"
