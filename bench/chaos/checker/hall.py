"""An order of the hall has exactly one winner: who has it was told so, and nobody else was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence

Pairs = set[tuple[str, str]]  # order, rider


def one_winner(evidence: Evidence) -> Iterator[Broken]:
    """Every claim's answer against the events of its order."""
    hall = {row["id"] for row in evidence.orders if row["body"].get("matching") == "hall"}
    events = [event for event in evidence.events if event["subject_id"] in hall]
    for event in events:
        if event["kind"] in ("declined", "timed_out"):
            yield Broken("hall_doubled", event["subject_id"], "was offered like another order")
    won = [(e["subject_id"], e["body"]["rider_id"]) for e in events if e["kind"] == "accepted"]
    told_yes, unanswered = _answers(evidence)
    for order, rider in sorted(told_yes - set(won)):
        yield Broken("hall_doubled", order, f"{rider} was told that it is his")
    for order, rider in sorted(set(won) - told_yes - unanswered):
        yield Broken("hall_doubled", order, f"{rider} has it and was told no")
    times = Counter(order for order, _ in won)
    for order, winners in Counter(order for order, _ in told_yes).items():
        if winners > times[order]:
            yield Broken("hall_doubled", order, f"{winners} riders were told that it is theirs")


def _answers(evidence: Evidence) -> tuple[Pairs, Pairs]:
    """Who was told `ok`, and who has a claim that was never answered."""
    told = {line["action_id"]: line["ok"] for line in evidence.told("action")}
    yes: Pairs = set()
    unanswered: Pairs = set()
    for line in evidence.told("action_sent"):
        if line["type"] == "claim":
            pair = line["order_id"], line["rider"]
            if line["action_id"] not in told:
                unanswered.add(pair)
            elif told[line["action_id"]]:
                yes.add(pair)
    return yes, unanswered
