"""All promises together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from bench.chaos.checker import (
    actions,
    expiry,
    feed,
    fixes,
    hall,
    money,
    orders,
    personal,
    plans,
    recovered,
    webhooks,
)
from bench.chaos.checker.evidence import Broken, Evidence

PROMISES = (
    "orders_lost",
    "orders_doubled",
    "riders_doubled",
    "hall_doubled",
    "illegal_histories",
    "plans_stale",
    "offered_late",
    "expired_late",
    "events_lost",
    "feed_broken",
    "actions_lost",
    "actions_doubled",
    "fixes_lost",
    "fen_off",
    "webhooks_lost",
    "webhooks_disordered",
    "personal_in_clear",
    "not_recovered",
)


@dataclass
class Verdict:
    """How often each promise was broken, None where it was not checked; and how."""

    counts: dict[str, int | None]
    broken: list[Broken] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return not self.broken

    @property
    def not_checked(self) -> list[str]:
        return [name for name, count in self.counts.items() if count is None]


def judge(evidence: Evidence) -> Verdict:
    """Checks every promise for which there is evidence."""
    checks = (
        orders.lost_and_doubled,
        orders.histories,
        orders.two_told,
        hall.one_winner,
        plans.stale,
        expiry.offered,
        expiry.expired,
        feed.whole,
        feed.read,
        actions.lost_and_doubled,
        fixes.lost,
        webhooks.delivered,
        personal.in_clear,
        recovered.services,
    )
    broken = [found for check in checks for found in check(evidence)]
    counted = Counter(found.promise for found in broken)
    counts: dict[str, int | None] = {name: counted[name] for name in PROMISES}
    off, wrong = money.fen_off(evidence)
    broken += wrong
    counts["fen_off"] = off
    if evidence.transfers is None:
        counts["fen_off"] = None
    if not any(evidence.told("endpoint")):
        counts["webhooks_lost"] = counts["webhooks_disordered"] = None
    return Verdict(counts, broken)
