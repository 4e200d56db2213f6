"""Why one dispatch of the same orders took longer than another, to the millisecond; no imports
but the lives.

An order's time from click to door is cut into parts without a rest, and the difference of two
means is the sum of what each part, and each order that only one of them delivered, adds to it.
Sums are exact fractions: nothing is left unexplained by rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from dispatch.model import Order, OrderState
from sim.lives import Life

PARTS = {
    "waited_for_offer": "placed, and not offered to anybody yet",
    "asked_again": "from the first offer to the one that was accepted: declined, unanswered",
    "answer": "the rider's answer",
    "others_first": "accepted, while the rider served other stops before he set out",
    "approach": "the rider's way to the pickup",
    "goods": "the rider at the pickup, the goods not ready",
    "pickup": "the rest of the time at the pickup",
    "ride": "the way to the door",
    "detour": "what other orders' stops added to that way",
    "hand_over": "at the door",
}
ONLY = {
    OrderState.EXPIRED: "expired",
    OrderState.CANCELLED_CUSTOMER: "cancelled",
    OrderState.CANCELLED_MERCHANT: "cancelled",
    OrderState.CANCELLED_SYSTEM: "cancelled",
}
"""How an order that one of the two delivered ended under the other; `unfinished` otherwise."""

Direct = Callable[[Order, str], int]
"""The way from an order's first stop to its last in ms, leaving the first included, for a rider."""


def parts(life: Life, ready_ms: int, direct_ms: int) -> dict[str, int]:
    """The parts of a delivered order in ms, which add up to `life.click_to_door_ms`.

    `ready_ms` is when the goods were ready, `direct_ms` how long the way to the door takes with
    nothing between. A moment that was not recorded is taken as the one before.
    """
    assert life.done_ms is not None
    single = len(life.order.stops) == 1
    moments = [life.first_ms, life.offered_ms, life.accepted_ms, life.headed_ms, life.arrived_ms]
    moments += [life.arrived_ms] * 2 if single else [life.picked_ms, life.at_door_ms]
    known = [life.placed_ms]
    for at_ms in (*moments, life.done_ms):
        known.append(known[-1] if at_ms is None else at_ms)
    first, again, answer, before, approach, pickup, way, over = (b - a for a, b in pairwise(known))
    arrived_ms, picked_ms = known[5], known[6]
    goods = max(0, min(picked_ms, ready_ms) - arrived_ms)
    detour = max(0, way - direct_ms) if life.others else 0
    values = (first, again, answer, before, approach, goods, pickup - goods, way - detour, detour)
    return dict(zip(PARTS, (*values, over), strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One order under two dispatches: the parts' differences in ms (empty unless both delivered
    it), and what it adds to the difference of the means, in ms."""

    order_id: str
    was: Life
    now: Life
    parts: Mapping[str, int]
    adds: Fraction


@dataclass(slots=True, kw_only=True)
class Difference:
    """The mean click-to-door of `now` less that of `was`, in ms, by cause; None if either
    delivered nothing. `causes` add up to `total` exactly. `changed` counts the orders of which
    something is otherwise."""

    total: Fraction | None
    causes: dict[str, Fraction]
    changes: list[Change]
    changed: Counter[str] = field(default_factory=Counter)


def difference(
    was: Mapping[str, Life],
    now: Mapping[str, Life],
    ready_ms: Callable[[Order], int],
    direct: Direct,
) -> Difference:
    """Compares two dispatches of the same orders.

    An order that both delivered adds its parts. One that only `was` delivered adds what the mean
    of the common ones gains by its absence, under how it ended instead (`lost_expired`, ...); one
    that only `now` delivered adds what it brings into the mean (`won_...`).
    """
    out = Difference(total=None, causes=dict.fromkeys(PARTS, Fraction(0)), changes=[])
    for name in was.keys() & now.keys():
        _count(out.changed, was[name], now[name])
    before, after = _door_ms(was), _door_ms(now)
    if not before or not after:
        return out
    out.total = _mean(after) - _mean(before)
    common = sorted(before.keys() & after.keys())
    if not common:
        out.causes["other_orders"] = out.total
        return out
    middle_was = Fraction(sum(before[name] for name in common), len(common))
    middle_now = Fraction(sum(after[name] for name in common), len(common))
    for name in common:
        a, b = was[name], now[name]
        first = parts(a, ready_ms(a.order), direct(a.order, a.rider_id))
        second = parts(b, ready_ms(b.order), direct(b.order, b.rider_id))
        delta = {part: second[part] - first[part] for part in PARTS}
        for part, ms in delta.items():
            out.causes[part] += Fraction(ms, len(common))
        adds = Fraction(sum(delta.values()), len(common))
        out.changes.append(Change(order_id=name, was=a, now=b, parts=delta, adds=adds))
    for name in sorted(before.keys() ^ after.keys()):
        if name in before:
            adds = (middle_was - before[name]) / len(before)
            cause = "lost_" + _how(now.get(name))
        else:
            adds = (after[name] - middle_now) / len(after)
            cause = "won_" + _how(was.get(name))
        out.causes[cause] = out.causes.get(cause, Fraction(0)) + adds
        if name in was and name in now:
            change = Change(order_id=name, was=was[name], now=now[name], parts={}, adds=adds)
            out.changes.append(change)
    return out


def _count(changed: Counter[str], was: Life, now: Life) -> None:
    delivered = was.done_ms is not None, now.done_ms is not None
    told = {
        "another_rider": was.rider_id != now.rider_id,
        "accepted_earlier": _moved(was.accepted_ms, now.accepted_ms) < 0,
        "accepted_later": _moved(was.accepted_ms, now.accepted_ms) > 0,
        "bundled_now": now.bundled and not was.bundled,
        "bundled_no_more": was.bundled and not now.bundled,
        "delivered_now": delivered == (False, True),
        "delivered_no_more": delivered == (True, False),
        "door_earlier": _moved(was.done_ms, now.done_ms) < 0,
        "door_later": _moved(was.done_ms, now.done_ms) > 0,
    }
    for what, true in told.items():
        changed[what] += true
    changed["any"] += any(told.values())


def _moved(was_ms: int | None, now_ms: int | None) -> int:
    return 0 if was_ms is None or now_ms is None else now_ms - was_ms


def _door_ms(lives: Mapping[str, Life]) -> dict[str, int]:
    timed = ((name, life.click_to_door_ms) for name, life in lives.items())
    return {name: ms for name, ms in timed if ms is not None}


def _mean(values: Mapping[str, int]) -> Fraction:
    return Fraction(sum(values.values()), len(values))


def _how(life: Life | None) -> str:
    return "unfinished" if life is None else ONLY.get(life.state, "unfinished")
