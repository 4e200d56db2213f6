"""The knobs of a city's dispatch, valid once built; imports the errors only.

Weights are thousandths of a cost point a millisecond; one point a millisecond of a customer's
waiting is weight 1000. The defaults are the shipped policy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from geo.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One city's knobs; `version` names the set in journals and receipts."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    version: str = "default"
    # the round
    tick_ms: int = 2_000
    candidates: int = 40
    route_stops_max: int = 8
    passes_max: int = 4
    # what an order costs
    door_weight: int = 1_000  # from placement to the last stop
    late_weight: int = 4_000  # beyond the promise
    fresh_weight: int = 100  # from ready to picked up
    ride_weight: int = 300  # the rider under way
    wait_weight: int = 100  # the rider waiting at a stop
    end_weight: int = 0  # distance of a route's end from recent pickups
    decline_penalty_ms: int = 600_000  # a rider who has declined this order
    stale_penalty_ms: int = 0  # a rider whose phone has been silent
    unassigned_ms: int = 7_200_000  # leaving an order over for this round
    stale_after_ms: int = 180_000  # a phone so long silent is stale; clocks are 2 minutes apart
    # commitment
    commit_ahead_ms: int = 600_000  # offer when the rider would have to leave within this
    look_ahead_ms: int = 900_000  # no rounds for what a rider so far away need not leave for
    offer_ms: int = 20_000
    complete_after_ms: int = 7_200_000
    hall_orders_max: int = 3  # who serves so many orders claims no more from the hall
    # rules of the closed list that a job or a benchmark switches on
    diversion: bool = True  # a rider on his way to a stop may be sent elsewhere first
    one_merchant_a_bundle: bool = False
    bundles_in_sequence: bool = False

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 0:
                raise InvalidValue(f"policy.{f.name}", value, "zero or more")
        if not 2 <= self.route_stops_max <= 12:
            raise InvalidValue("policy.route_stops_max", self.route_stops_max, "2 to 12")
        for name in ("tick_ms", "candidates", "passes_max", "unassigned_ms"):
            if getattr(self, name) < 1:
                raise InvalidValue(f"policy.{name}", getattr(self, name), "1 or more")
