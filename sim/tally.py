"""The figures of a city, or of several together, from what was counted in each; uses numpy.

A percentile of several cities cannot be had from theirs: so what is counted is kept apart from the
figures that are made of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

Kpis = dict[str, int | float | None]

INCOME_SHARE = 0.8
"""The part of an order's price that its rider earns."""
MINUTE_MS = 60_000
HOUR_MS = 3_600_000

PARTS = ("match", "to_pickup", "wait_pickup", "to_door", "hand_over")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tally:
    """What was counted up to an instant.

    `counts` by name, `live` orders that have not ended; n orders delivered: `parts_ms` (n x PARTS)
    and `late_ms` (n); m riders: `online_ms`, `busy_ms`, `income_fen` (m, prices of what they
    delivered); `metres` ridden, `empty_metres` of them with nothing on board.
    """

    counts: Counter[str]
    live: int
    parts_ms: I8
    late_ms: I8
    online_ms: I8
    busy_ms: I8
    income_fen: F8
    metres: float
    empty_metres: float


EMPTY = Tally(
    counts=Counter(),
    live=0,
    parts_ms=np.zeros((0, len(PARTS)), np.int64),
    late_ms=np.zeros(0, np.int64),
    online_ms=np.zeros(0, np.int64),
    busy_ms=np.zeros(0, np.int64),
    income_fen=np.zeros(0),
    metres=0.0,
    empty_metres=0.0,
)


def together(tallies: Sequence[Tally]) -> Tally:
    """Several cities as one, in their order. Raises ValueError for none."""
    counts: Counter[str] = Counter()
    for one in tallies:
        counts.update(one.counts)
    return Tally(
        counts=counts,
        live=sum(one.live for one in tallies),
        parts_ms=np.concatenate([one.parts_ms for one in tallies]),
        late_ms=np.concatenate([one.late_ms for one in tallies]),
        online_ms=np.concatenate([one.online_ms for one in tallies]),
        busy_ms=np.concatenate([one.busy_ms for one in tallies]),
        income_fen=np.concatenate([one.income_fen for one in tallies]),
        metres=sum(one.metres for one in tallies),
        empty_metres=sum(one.empty_metres for one in tallies),
    )


def figures(
    tally: Tally,
    round_ms: ArrayLike = (),
    refused_plans: int = 0,
    income_share: float = INCOME_SHARE,
) -> Kpis:
    """The figures by name; None where there is nothing to measure.

    `round_ms` are the lengths of the rounds and `refused_plans` what the referee refused: the
    driver's own, since events do not tell.
    """
    counted = tally.counts
    parts = tally.parts_ms / MINUTE_MS
    door = parts.sum(axis=1)
    late = tally.late_ms / MINUTE_MS
    delivered = len(door)
    out: Kpis = {
        "orders_created": counted["created"],
        "orders_delivered": delivered,
        "orders_cancelled_customer": counted["cancelled_customer"],
        "orders_cancelled_merchant": counted["cancelled_merchant"],
        "orders_cancelled_system": counted["cancelled_system"],
        "orders_expired": counted["expired"],
        "orders_returned": counted["returned"],
        "orders_failed": counted["failed"],
        "orders_live": tally.live,
        "on_time_share": _share(int((late <= 0.0).sum()), delivered),
        "click_to_door_mean_min": _mean(door),
        "click_to_door_p50_min": _percentile(door, 50),
        "click_to_door_p95_min": _percentile(door, 95),
    }
    for i, name in enumerate(PARTS):
        out[f"{name}_mean_min"] = _mean(parts[:, i])
    out["lateness_mean_min"] = _mean(late)
    out["lateness_p95_min"] = _percentile(late, 95)
    out["bundled_share"] = _share(counted["bundled"], delivered)
    for name in ("made", "accepted", "declined", "timed_out"):
        out[f"offers_{name}"] = counted[f"offers_{name}"]
    out["orders_reassigned"] = counted["reassigned"]
    out |= _riding(tally, delivered, income_share)
    out["refused_plans"] = refused_plans
    out["round_ms_p95"] = _percentile(np.asarray(round_ms, np.float64), 95)
    return out


def _riding(tally: Tally, delivered: int, income_share: float) -> Kpis:
    """What concerns the riders' time, ways and income."""
    online_h, busy_h = tally.online_ms / HOUR_MS, tally.busy_ms / HOUR_MS
    income = tally.income_fen * income_share
    worked = online_h > 0
    hourly = income[worked] / 100 / online_h[worked]
    km = tally.metres / 1000
    return {
        "riders": len(online_h),
        "online_h": float(online_h.sum()),
        "orders_per_online_h": _share(delivered, float(online_h.sum())),
        "orders_per_busy_h": _share(delivered, float(busy_h.sum())),
        "utilisation": _share(float(busy_h.sum()), float(online_h.sum())),
        "km": km,
        "km_per_order": _share(km, delivered),
        "empty_km_share": _share(tally.empty_metres / 1000, km),
        "income_per_online_h_yuan": _share(float(income.sum()) / 100, float(online_h.sum())),
        "income_gini": gini(hourly),
    }


def gini(values: F8) -> float | None:
    """The Gini coefficient of values of zero or more: 0 all equal, towards 1 one has all.

    The mean absolute difference over twice the mean, by the sorted form. None for no values, 0
    when all are zero.
    """
    n = len(values)
    if n == 0:
        return None
    ranked = np.sort(values)
    total = float(ranked.sum())
    if total == 0.0:
        return 0.0
    rank = np.arange(1, n + 1)
    return float(2.0 * (rank * ranked).sum() / (n * total) - (n + 1) / n)


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(values: F8) -> float | None:
    return float(values.mean()) if len(values) else None


def _percentile(values: F8, q: float) -> float | None:
    return float(np.percentile(values, q)) if len(values) else None


NAMES = tuple(figures(EMPTY))
"""The figures, in their order."""
