"""What a round decides, as values with a digest; imports the model only."""

from __future__ import annotations

import hashlib
from enum import StrEnum

from dispatch.model import RouteStop, Value


class WaitReason(StrEnum):
    """Why an order is left waiting this round. RIDERS_TAKEN: by others, or by an open offer."""

    NO_RIDER_ON_SHIFT = "no_rider_on_shift"
    NO_RIDER_WITH_SKILLS = "no_rider_with_skills"
    NO_FEASIBLE_ROUTE = "no_feasible_route"
    TOO_DEAR = "too_dear"
    RIDERS_TAKEN = "riders_taken"
    ON_PURPOSE = "on_purpose"
    NO_PLAN = "no_plan"


class PlannedOffer(Value, frozen=True, kw_only=True):
    """Offer the order to the rider; `route` is his whole route with all that this plan gives him.

    `pickup_ms` and `done_ms` are the planned moments of the first and the last stop, `cost` the
    points that the order adds to the route (see dispatch.policy). `stale`: the rider is assumed to
    be where he was last seen, longer than `policy.stale_after_ms` ago.
    """

    order_id: str
    order_version: int
    rider_id: str
    route: tuple[RouteStop, ...]
    pickup_ms: int
    done_ms: int
    cost: int
    stale: bool = False


class Wait(Value, frozen=True, kw_only=True):
    order_id: str
    reason: WaitReason


class Plan(Value, frozen=True, kw_only=True):
    """A round's decision, in the snapshot's order of orders.

    `solver` names who decided: "matching", "greedy" when the solver was dead or late, or "none"
    when no plan could be made. `matched` are the points of the first matching, dummies included.
    """

    at_ms: int
    solver: str
    offers: tuple[PlannedOffer, ...]
    waits: tuple[Wait, ...]
    matched: int = 0

    def digest(self) -> str:
        """SHA-256 over everything that is decided; equal plans have equal digests."""
        h = hashlib.sha256()
        h.update(f"{self.at_ms} {self.solver} {self.matched}\n".encode())
        for o in self.offers:
            route = ",".join(f"{s.order_id}/{s.stop}" for s in o.route)
            line = (o.order_id, o.order_version, o.rider_id, route, o.pickup_ms, o.done_ms, o.cost)
            h.update((" ".join(map(str, line)) + " stale" * o.stale + "\n").encode())
        for w in self.waits:
            h.update(f"{w.order_id} {w.reason}\n".encode())
        return h.hexdigest()
