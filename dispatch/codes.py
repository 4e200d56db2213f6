"""Courier codes that integrators know, as a view on the three states; imports the model only.

An order has exactly one current code per list; a code that means the end is given only when the
order has ended. The lists are those of the public courier APIs (WeChat's 101 to 502).
"""

from __future__ import annotations

from dispatch.lifecycle import ORDER
from dispatch.model import Order, OrderState, StopState

O = OrderState  # noqa: E741

LISTS = ("wechat", "dada", "meituan", "shansong", "doordash")
# One row a stage, one column a list.
_CODES = {
    "open": ("101", "1", "0", "20", "created"),
    "assigned": ("102", "2", "20", "30", "confirmed"),
    "at_pickup": ("201", "100", "20", "30", "arrived_at_pickup"),
    "picked_up": ("202", "3", "30", "40", "picked_up"),
    "to_door": ("301", "3", "30", "40", "picked_up"),
    "done": ("302", "4", "50", "50", "delivered"),
    "cancelled": ("103", "5", "99", "60", "cancelled"),
    "cancelled_at_pickup": ("203", "5", "99", "60", "cancelled"),
    "cancelled_system": ("501", "5", "99", "60", "cancelled"),
    "expired": ("502", "5", "99", "60", "cancelled"),
    "failed_rider": ("204", "5", "99", "60", "cancelled"),
    "returning": ("303", "9", "30", "40", "return_initialized"),
    "returned": ("401", "10", "99", "60", "returned"),
}


def stage_of(order: Order) -> str:
    """The one stage that every list has a code for."""
    direct = {
        O.QUOTED: "open",
        O.SCHEDULED: "open",
        O.OPEN: "open",
        O.DONE: "done",
        O.COMPLETED: "done",
        O.CANCELLED_SYSTEM: "cancelled_system",
        O.EXPIRED: "expired",
        O.RETURNED: "returned",
        O.FAILED: "failed_rider",
    }
    if order.state in direct:
        return direct[order.state]
    first = order.stops[0]
    if order.state in (O.CANCELLED_CUSTOMER, O.CANCELLED_MERCHANT):
        return "cancelled" if first.arrived_at_ms is None else "cancelled_at_pickup"
    if order.returning:
        return "returning"
    if first.state is StopState.ARRIVED:
        return "at_pickup"
    if first.state is StopState.DONE:
        moving = any(s.state in (StopState.HEADING, StopState.ARRIVED) for s in order.stops[1:])
        return "to_door" if moving else "picked_up"
    return "assigned"


def codes_of(order: Order) -> dict[str, str]:
    """The current code by list: `{"wechat": "102", ...}`."""
    return dict(zip(LISTS, _CODES[stage_of(order)], strict=True))


def is_final(order: Order) -> bool:
    """No later code can follow: the order has ended, or is done."""
    return ORDER.ended(order.state) or order.state is O.DONE
