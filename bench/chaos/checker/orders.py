"""No order lost or doubled, none with two riders, none with an impossible history."""

from __future__ import annotations

from collections.abc import Iterator

from bench.chaos.checker.evidence import Broken, Evidence, Row
from bench.chaos.checker.history import Impossible, OrderLife, rider_trouble


def lost_and_doubled(evidence: Evidence) -> Iterator[Broken]:
    """What customers were told against the table of orders; each customer orders once."""
    rows = {row["id"]: row for row in evidence.orders}
    placed: dict[str, set[str]] = {}
    for order in evidence.orders:
        placed.setdefault(order["customer_id"], set()).add(order["id"])
    told: dict[str, set[str]] = {}
    for line in evidence.told("order"):
        told.setdefault(line["customer"], set()).add(line["order"])
        row: Row | None = rows.get(line["order"])
        if row is None:
            yield Broken("orders_lost", line["order"], f"{line['customer']} was told of it")
        elif row["price_fen"] != line["price_fen"]:
            what = f"told {line['price_fen']} fen, stored {row['price_fen']}"
            yield Broken("orders_lost", line["order"], what)
    for customer in placed.keys() | told.keys():
        ids = placed.get(customer, set()) | told.get(customer, set())
        if len(ids) > 1:
            yield Broken("orders_doubled", customer, f"has {sorted(ids)}")
    for line in evidence.told("cancel"):
        row = rows.get(line["order"])
        if line["ok"] and row is not None and not row["state"].startswith("cancelled_"):
            yield Broken("orders_lost", line["order"], f"told cancelled, is {row['state']}")


def histories(evidence: Evidence) -> Iterator[Broken]:
    """The events of each order and rider against the tables, and their rows against the events."""
    attempts: dict[str, dict[int, tuple[str, str]]] = {}
    for row in evidence.assignments:
        of_order = attempts.setdefault(row["order_id"], {})
        of_order[row["number"]] = (row["rider_id"], row["state"])
    by_order = evidence.histories("order")
    rows = {row["id"]: row for row in evidence.orders}
    for order_id in sorted(by_order.keys() | rows.keys()):
        life = OrderLife()
        try:
            for event in by_order.get(order_id, []):
                life.take(event)
        except Impossible as found:
            promise = "riders_doubled" if found.doubled else "illegal_histories"
            yield Broken(promise, order_id, str(found))
            continue
        trouble = _against_row(rows.get(order_id), attempts.get(order_id, {}), life)
        if trouble:
            yield Broken("illegal_histories", order_id, trouble)
    riders = {row["id"]: row for row in evidence.riders}
    for rider_id, events in evidence.histories("rider").items():
        trouble = rider_trouble(riders.get(rider_id), events)
        if trouble:
            yield Broken("illegal_histories", rider_id, trouble)


def _against_row(row: Row | None, attempts: dict[int, tuple[str, str]], life: OrderLife) -> str:
    if row is None:
        return "has events and no row"
    if life.count == 0:
        return "has a row and no events"
    live = life.live
    body = row["body"]
    assignment = body.get("assignment")
    pairs = {
        "state": (row["state"], life.state),
        "version": (row["version"], life.count),
        "rider_id": (row["rider_id"], live and live["rider"]),
        "price_fen": (row["price_fen"], life.price_fen),
        "body.state": (body.get("state", "quoted"), life.state),
        "body.version": (body.get("version", 0), life.count),
        "body.attempts": (body.get("attempts", 0), len(life.attempts)),
        "body.stops": ([s.get("state", "planned") for s in body["stops"]], life.stops),
        "body.assignment": (
            assignment and (assignment["number"], assignment["rider_id"], assignment["state"]),
            live and (live["number"], live["rider"], live["state"]),
        ),
        "assignments": (attempts, life.attempts),
    }
    for name, (stands, folded) in pairs.items():
        if stands != folded:
            return f"{name} is {stands!r}, its events say {folded!r}"
    return ""


def two_told(evidence: Evidence) -> Iterator[Broken]:
    """Two riders who were both told that an order is theirs, without an end between."""
    ends = {"withdrawn", "dropped", "declined", "timed_out"}
    ended = {
        (event["subject_id"], event["body"]["number"])
        for event in evidence.events
        if event["kind"] in ends
    }
    sent = {line["action_id"]: line for line in evidence.told("action_sent")}
    holders: dict[str, dict[int, str]] = {}
    for line in evidence.told("action"):
        asked = sent.get(line["action_id"])
        if asked is None or asked["type"] != "accept" or not line["ok"]:
            continue
        order, number, rider = asked["order_id"], asked["number"], line["rider"]
        of_order = holders.setdefault(order, {})
        for other, who in of_order.items():
            if who != rider and (other == number or (order, min(other, number)) not in ended):
                yield Broken("riders_doubled", order, f"{who} and {rider} were told that it is his")
        of_order[number] = rider
