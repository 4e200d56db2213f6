"""Whom the gateway lets in when it is full: who watches gives way first, busy riders never do.

May import the capacity.
"""

from __future__ import annotations

from api.auth import Role
from api.capacity import Limits, Load

# Parts of the `connections` limit: the last ones are kept for riders who serve an order.
WATCHERS_PART = 0.8
IDLE_RIDERS_PART = 0.95


class Entrance:
    """The gateway's limits and its load. `leaving`: it closes soon; `shut`: nobody comes in."""

    def __init__(self, limits: Limits) -> None:
        self.limits, self.load = limits, Load()
        self.leaving = self.shut = False

    def full_for(self, role: Role, busy: bool, connections: int) -> str | None:
        """What keeps this client out, None when he may come in; `connections` are open already."""
        limits, lag_ms = self.limits, self.load.lag_ms
        if role is Role.RIDER:
            if busy:
                return None
            if connections > IDLE_RIDERS_PART * limits.connections:
                return "idle_riders"
            return "idle_riders_lag" if lag_ms > limits.idle_riders_lag_ms else None
        if connections > WATCHERS_PART * limits.connections:
            return "watchers"
        return "watchers_lag" if lag_ms > limits.watchers_lag_ms else None
