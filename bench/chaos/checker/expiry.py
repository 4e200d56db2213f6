"""An order's expiry ends its search: no offer at or after it, and the order expires in time."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence, Row

LATE_MS = 30_000
"""For every outage at once: how much later than it could an order may expire."""
CLOCK_MS = 30_000
"""As much as a fault sets a clock ahead."""


def offered(evidence: Evidence) -> Iterator[Broken]:
    """Offers against the expiry of their order, by the instants that both were written with."""
    expires = {row["id"]: row["expires_at_ms"] for row in evidence.orders}
    for event in evidence.events:
        if event["kind"] == "offered" and event["at_ms"] >= expires.get(event["subject_id"], 0):
            late_ms = event["at_ms"] - expires.get(event["subject_id"], 0)
            yield Broken("offered_late", event["subject_id"], f"{late_ms} ms after its expiry")


def expired(evidence: Evidence) -> Iterator[Broken]:
    """Orders that nobody had when they expired, or that came back later.

    One that is still open is judged by the run's end. Nothing counts before its customer heard of
    it: the clock that made it may have been set back.
    """
    histories = evidence.histories("order")
    told = {line["order"]: line["ms"] for line in evidence.told("order")}
    end_ms = max((line["ms"] for line in evidence.told("load_ends")), default=0)
    for row in evidence.orders:
        events = histories.get(row["id"], [])
        if row["state"] not in ("open", "expired") or not events:
            continue
        free_ms = max(_free_ms(row, events), told.get(row["id"], 0))
        if row["state"] == "open":
            late_ms = end_ms - free_ms
        else:
            late_ms = events[-1]["at_ms"] - CLOCK_MS - free_ms
        if late_ms > LATE_MS:
            yield Broken("expired_late", row["id"], f"{row['state']}, {late_ms} ms after it could")


def _free_ms(row: Row, events: list[Row]) -> int:
    """Since when the order could expire: its expiry, or the end of the last attempt after it."""
    before = [event for event in events if event["kind"] != "expired"]
    deadline_ms = before[-1]["body"].get("deadline_ms", 0) if before else 0
    return max(row["expires_at_ms"], deadline_ms, *(event["at_ms"] for event in before))
