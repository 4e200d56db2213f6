"""Folds the events of one order or rider, and names what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.chaos.checker.evidence import Row
from bench.chaos.checker.tables import ASSIGNMENT, ORDER, STOP, Table, ended


class Impossible(Exception):
    """An event that cannot follow those before it. `doubled`: it gives the order two riders."""

    def __init__(self, what: str, *, doubled: bool = False) -> None:
        super().__init__(what)
        self.doubled = doubled


class OrderLife:
    """An order as its events tell it."""

    def __init__(self) -> None:
        self.state, self.count, self.price_fen = "", 0, -1
        self.stops: list[str] = []
        self.live: dict[str, Any] | None = None
        self.attempts: dict[int, tuple[str, str]] = {}
        self.ended_at_ms: int | None = None

    def take(self, event: Row) -> None:
        """Folds one event. Raises Impossible."""
        if event["seq"] != self.count + 1:
            raise Impossible(f"seq {event['seq']} follows {self.count}")
        kind, body = event["kind"], event["body"]
        if (kind == "placed") != (self.count == 0):
            raise Impossible(f"{kind} is event {event['seq']}")
        how = _FOLDS.get(kind)
        if how is None:
            raise Impossible(f"nothing is known of {kind}")
        how(self, body)
        self.count += 1

    # --- moves --------------------------------------------------------------------------------

    def move(self, by: str) -> None:
        self.state = _moved("order", ORDER, self.state, by)

    def move_stop(self, index: int, by: str) -> None:
        if not 0 <= index < len(self.stops):
            raise Impossible(f"there is no stop {index}")
        if by in ("head", "arrive", "finish", "fail") and any(
            not ended(STOP, state) for state in self.stops[:index]
        ):
            raise Impossible(f"stop {index} comes before its turn")
        self.stops[index] = _moved(f"stop {index}", STOP, self.stops[index], by)

    def move_stops(self, by: str) -> None:
        """Every stop that has the move."""
        self.stops = [STOP.get(state, {}).get(by, state) for state in self.stops]

    def move_attempt(self, by: str) -> None:
        if self.live is None:
            raise Impossible(f"{by} of no attempt")
        state = _moved("attempt", ASSIGNMENT, self.live["state"], by)
        self.live["state"] = state
        self.attempts[self.live["number"]] = (self.live["rider"], state)
        if ended(ASSIGNMENT, state):
            self.live = None

    def same_attempt(self, body: Row) -> None:
        """The fact names the live attempt and its rider."""
        if self.live is None:
            raise Impossible(f"no attempt is live, {body} names one")
        for name, field in (("number", "number"), ("rider_id", "rider")):
            if name in body and body[name] != self.live[field]:
                raise Impossible(f"{name} {body[name]!r} is not the live attempt's", doubled=True)

    # --- facts --------------------------------------------------------------------------------

    def placed(self, body: Row) -> None:
        order = body["order"]
        self.state, self.price_fen = order["state"], order["price_fen"]
        self.stops = [stop.get("state", "planned") for stop in order["stops"]]
        if self.state != "quoted":
            raise Impossible(f"placed as {self.state}")

    def offered(self, body: Row) -> None:
        if self.live is not None:
            who = self.live["rider"]
            raise Impossible(f"offered to {body['rider_id']} while {who} has it", doubled=True)
        if self.state != "open":
            raise Impossible(f"offered while {self.state}")
        if body["number"] != len(self.attempts) + 1:
            raise Impossible(f"attempt {body['number']} follows {len(self.attempts)}")
        self.live = {"number": body["number"], "rider": body["rider_id"], "state": "offered"}
        self.attempts[body["number"]] = (body["rider_id"], "offered")

    def accepted(self, body: Row) -> None:
        self.same_attempt(body)
        self.move_attempt("accept")
        self.move("accept")

    def over(self, body: Row, by: str) -> None:
        """The attempt ends and the order goes on."""
        self.same_attempt(body)
        was_offered = self.live is not None and self.live["state"] == "offered"
        self.move_attempt(by)
        if not was_offered:
            self.move_stops("release")
            self.move("release")

    def on_stop(self, body: Row, by: str) -> None:
        self.same_attempt({"rider_id": body["rider_id"]})
        if self.live is not None and self.live["state"] == "offered":
            raise Impossible(f"{by} by a rider who has not accepted")
        self.move_stop(body["stop"], by)
        if self.state == "assigned":
            self.move_attempt("start")
            self.move("start")
        if self.state != "under_way":
            raise Impossible(f"{by} while {self.state}")

    def return_added(self, body: Row) -> None:
        self.same_attempt({"rider_id": body["rider_id"]})
        self.move_stops("skip")
        self.stops.append("planned")

    def finished(self, body: Row) -> None:
        self.same_attempt(body)
        if any(not ended(STOP, state) for state in self.stops):
            raise Impossible(f"finished with stops {self.stops}")
        self.move_attempt("finish")
        self.move("finish")

    def end(self, by: str, attempt: str) -> None:
        """The order ends, and with it a live attempt."""
        if self.live is not None:
            if attempt == "":
                raise Impossible(f"{by} while {self.live['rider']} has it")
            self.move_attempt(attempt)
        self.move_stops("skip")
        self.move(by)


def _moved(what: str, table: Table, state: str, by: str) -> str:
    try:
        return table[state][by]
    except KeyError:
        raise Impossible(f"{what}: {by} of {state or 'nothing'}") from None


_FOLDS: dict[str, Callable[[OrderLife, Row], None]] = {
    "placed": OrderLife.placed,
    "scheduled": lambda life, body: life.move("schedule"),
    "opened": lambda life, body: life.move("open"),
    "offered": OrderLife.offered,
    "accepted": OrderLife.accepted,
    "declined": lambda life, body: life.over(body, "decline"),
    "timed_out": lambda life, body: life.over(body, "time_out"),
    "withdrawn": lambda life, body: life.over(body, "withdraw"),
    "dropped": lambda life, body: life.over(body, "drop"),
    "heading": lambda life, body: life.on_stop(body, "head"),
    "arrived": lambda life, body: life.on_stop(body, "arrive"),
    "stop_done": lambda life, body: life.on_stop(body, "finish"),
    "stop_failed": lambda life, body: life.on_stop(body, "fail"),
    "return_added": OrderLife.return_added,
    "finished": OrderLife.finished,
    "completed": lambda life, body: life.move("complete"),
    "cancelled": lambda life, body: life.end(f"cancel_{body['by']}", "withdraw"),
    "expired": lambda life, body: life.end("expire", ""),
    "returned": lambda life, body: life.end("return", "finish"),
    "failed": lambda life, body: life.end("fail", "finish"),
}


def rider_trouble(row: Row | None, events: list[Row]) -> str:
    """What is wrong with a rider's history, or nothing."""
    state = "off"
    for count, event in enumerate(events, 1):
        if event["seq"] != count:
            return f"seq {event['seq']} follows {count - 1}"
        after = {"went_on_shift": ("off", "on"), "went_off_shift": ("on", "off")}
        if event["kind"] not in after or after[event["kind"]][0] != state:
            return f"{event['kind']} while {state}"
        state = after[event["kind"]][1]
    if row is None:
        return "has events and no row"
    if (row["state"], row["version"]) != (state, len(events)):
        return f"its row is {row['state']} at {row['version']}, its events say {state}"
    return ""
