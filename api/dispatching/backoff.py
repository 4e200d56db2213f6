"""Leaves an order alone for a while after it could not be written; imports the clock only."""

from __future__ import annotations

from collections import OrderedDict

from api.clock import monotonic_s

FIRST_S, MAX_S = 10.0, 300.0
KEPT_MAX = 10_000


class Backoff:
    """Twice as long after each failure of the same order, up to MAX_S.

    It remembers the latest KEPT_MAX orders.
    """

    def __init__(self) -> None:
        self._failed: OrderedDict[str, tuple[float, float]] = OrderedDict()  # pause, until

    def rests(self, order_id: str) -> bool:
        """Whether the order is to be left alone now."""
        _, until_s = self._failed.get(order_id, (0.0, 0.0))
        return monotonic_s() < until_s

    def failed(self, order_id: str) -> float:
        """Remembers the failure; the seconds for which the order rests."""
        before_s, _ = self._failed.pop(order_id, (0.0, 0.0))
        pause_s = min(2 * before_s, MAX_S) if before_s else FIRST_S
        self._failed[order_id] = pause_s, monotonic_s() + pause_s
        if len(self._failed) > KEPT_MAX:
            self._failed.popitem(last=False)
        return pause_s

    def worked(self, order_id: str) -> None:
        """The order is like any other again."""
        self._failed.pop(order_id, None)
