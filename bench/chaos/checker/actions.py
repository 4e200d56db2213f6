"""No action of a rider lost, none applied twice: each against the events it must have made.

An accept is known by its attempt, a decline by its reason, a report of a stop by the phone's
instant, which no two reports of a phone share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from bench.chaos.checker.evidence import Broken, Evidence, Row

Mark = tuple[str, str, str, Any]  # order, kind of event, rider, what tells it from others
_OF_STATE = {
    "heading": "heading",
    "arrived": "arrived",
    "done": "stop_done",
    "failed": "stop_failed",
}


def lost_and_doubled(evidence: Evidence) -> Iterator[Broken]:
    """Every answered action has its event if it was taken, none has two; but claims."""
    made = Counter(
        mark
        for event in evidence.events
        if event["subject_kind"] == "order" and (mark := _of_event(event)) is not None
    )
    sent: dict[str, Row] = {}
    for line in evidence.told("action_sent"):
        if line["type"] == "claim":
            continue  # see `hall`
        sent[line["action_id"]] = line
    told: dict[str, bool] = {}
    for line in evidence.told("action"):
        action_id, ok = line["action_id"], bool(line["ok"])
        if told.setdefault(action_id, ok) != ok:
            yield Broken("actions_lost", action_id, "was told yes and no")
        if ok and action_id in sent and not made[_of_action(sent[action_id])]:
            yield Broken("actions_lost", action_id, f"was told ok: {_shown(sent[action_id])}")
    for line in sent.values():
        mark = _of_action(line)
        if made[mark] > 1:
            what = f"{made[mark]} events of {_shown(line)}"
            yield Broken("actions_doubled", line["action_id"], what)
        elif made[mark] and told.get(line["action_id"]) is False and line["type"] != "accept":
            what = f"was refused, and stands: {_shown(line)}"
            yield Broken("actions_doubled", line["action_id"], what)


def _of_event(event: Row) -> Mark | None:
    kind, body = event["kind"], event["body"]
    if kind == "accepted":
        return event["subject_id"], kind, body["rider_id"], body["number"]
    if kind == "declined":
        return event["subject_id"], kind, body["rider_id"], body["reason"]
    if kind in _OF_STATE.values():
        return event["subject_id"], kind, body["rider_id"], body.get("device_ms")
    return None


def _of_action(line: Row) -> Mark:
    order, rider = line["order_id"], line["rider"]
    if line["type"] == "accept":
        return order, "accepted", rider, line["number"]
    if line["type"] == "decline":
        return order, "declined", rider, line["reason"]
    return order, _OF_STATE[line["state"]], rider, line["at_ms"]


def _shown(line: Row) -> str:
    return f"{line['type']} {line.get('state', '')} of {line['order_id']} by {line['rider']}"
