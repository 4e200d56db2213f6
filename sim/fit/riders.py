"""Vehicles and shifts of a fitted scenario, from a log of couriers; uses numpy and scipy."""

from __future__ import annotations

from collections import Counter

import numpy as np
from scipy.spatial import KDTree

from dispatch.vehicles import ITEMS, MEAN_KMH
from geo.distance import Plane
from sim.fit.counts import rounded_shares
from sim.hours import local_time
from sim.logs.table import F8, CourierLog, vehicle_of
from sim.scenario import LEGAL_SPEED_MPS, RiderKnobs, Shift, Vehicle

_LENGTHS = 3
"""Shifts of one hour's start come in so many lengths at most."""
_SHIFT_H_MIN = 0.25
# The median distance of a round normal law, by its standard deviation in one direction.
_MEDIAN_OF_NORMAL = 1.177410022515475


def fit_riders(couriers: CourierLog, plane: Plane, x: F8, y: F8) -> RiderKnobs:
    """Riders as many as were on duty on a day of the log, near merchants at (x, y) in metres of
    the plane. Speeds are the usual ones of their vehicles."""
    local = local_time(int(couriers.on_ms.min()), int(couriers.on_ms.max()) + 1, couriers.zone)
    bins = local.bins(couriers.on_ms)
    days = int(local.day[-1] - local.day[0]) + 1
    hours = (couriers.off_ms - couriers.on_ms) / 3_600_000
    worked = hours >= _SHIFT_H_MIN
    start_h = local.quarter[bins] // 4
    parts: list[tuple[int, F8]] = []
    for hour in range(24):
        own = np.sort(hours[worked & (start_h == hour)])
        for part in np.array_split(own, min(_LENGTHS, max(len(own) // 10, 1))):
            if len(part):
                parts.append((hour, part))
    shares = rounded_shares([len(part) for _, part in parts]) if parts else []
    shifts = tuple(
        Shift(start_h=float(hour), hours=float(f"{part.mean():.4g}"), share=share, spread_h=1.0)
        for (hour, part), share in zip(parts, shares, strict=True)
        if share > 0
    )
    own_x, own_y = plane.xy(couriers.lat[worked], couriers.lon[worked])
    away = np.atleast_1d(KDTree(np.column_stack([x, y])).query(np.column_stack([own_x, own_y]))[0])
    names = Counter(vehicle_of(name) for name in couriers.vehicle)
    share_of = dict(zip(names, rounded_shares(list(names.values())), strict=True))
    return RiderKnobs(
        count=max(1, round(int(worked.sum()) / days)),
        shifts=shifts or (Shift(start_h=0.0, hours=24.0),),
        start_m=round(float(np.median(away)) / _MEDIAN_OF_NORMAL, 1) if len(away) else 400.0,
        vehicles=tuple(
            Vehicle(
                vehicle=name,
                share=share,
                speed_mps=round(min(MEAN_KMH[name] / 3.6, LEGAL_SPEED_MPS[name]), 2),
                capacity=ITEMS[name],
            )
            for name, share in share_of.items()
        ),
    )


def usual_riders(orders_a_day: float) -> RiderKnobs:
    """Without a log of couriers: one rider for each 25 orders a day, on from 8 to 24 at most."""
    return RiderKnobs(
        count=max(1, round(orders_a_day / 25)),
        shifts=(
            Shift(start_h=8.0, hours=9.0, share=0.3, spread_h=2.0),
            Shift(start_h=10.0, hours=10.0, share=0.5, spread_h=2.0),
            Shift(start_h=15.0, hours=8.0, share=0.2, spread_h=2.0),
        ),
    )
