"""A scenario fitted from logs: all laws put together, written as YAML with its tables beside it.

Writes files; imports yaml.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import yaml

from geo.distance import Plane
from geo.errors import InvalidValue
from sim.fit.counts import counted, starts
from sim.fit.laws import DoorFit, PrepFit, fit_doors, fit_merchants, fit_promises
from sim.fit.rates import RateFit, fit_rates
from sim.fit.riders import fit_riders, usual_riders
from sim.logs.table import CourierLog, OrderLog
from sim.logs.writing import whole_files
from sim.scenario import (
    TABLES,
    CityKnobs,
    CustomerKnobs,
    DemandKnobs,
    MerchantKnobs,
    OrderKnobs,
    Rate,
    RiderKnobs,
    Scenario,
    table_text,
)

_DAY_S = 86_400
_RUN_DRY_S = 4 * 3600
_EDGE_SHARE = 0.001
"""So many of the places lie outside the fitted town, whose doors are pulled to its edge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The scenario, and how its laws came about."""

    scenario: Scenario
    orders: int
    days: int
    rates: dict[str, RateFit]
    prep: PrepFit
    doors: DoorFit


def fit_scenario(
    log: OrderLog,
    couriers: CourierLog | None = None,
    name: str = "fitted",
    without: int | None = None,
) -> Fitted:
    """A day of the city of a log: its last local day, by default. The date `without` (as
    `date.toordinal`), whose orders were taken out of the log, is no day on which nobody ordered.
    InvalidValue for a log of too few orders to fit anything from."""
    if len(log) < 2:
        raise InvalidValue("log", f"{len(log)} orders", "2 or more to fit from")
    counts = counted(log, without=without)
    job_types = Counter(log.job_type)
    rates: list[Rate] = []
    fits = {}
    for job in sorted(job_types):
        own = log.take(np.array([j == job for j in log.job_type]))
        rows, fits[job] = fit_rates(counted(own, counts.days), job if len(job_types) > 1 else "")
        rates += rows
    merchants, prep = fit_merchants(log)
    doors, door_fit = fit_doors(log)
    days = int(counts.days.sum())
    plane, radius_m = _town(log, door_fit.longest_m)
    x, y = plane.xy(np.array([m.lat for m in merchants]), np.array([m.lon for m in merchants]))
    if couriers is not None and len(couriers):
        riders = fit_riders(couriers, plane, x, y)
    else:
        riders = usual_riders(len(log) / days)
    kitchen = MerchantKnobs(late_share=0.0)
    if prep.mean_s:
        kitchen = MerchantKnobs(
            prep_s=prep.mean_s,
            prep_spread=prep.spread,
            prep_law=prep.law,
            prep_by_hour=prep.by_hour,
            late_share=0.0,
        )
    scenario = Scenario(
        name=name,
        city=CityKnobs(
            name=name,
            lat=plane.lat0,
            lon=plane.lon0,
            radius_m=radius_m,
            door_m=door_fit.median_m,
            door_spread=door_fit.spread,
            door_max_m=door_fit.longest_m,
            zone=log.zone,
        ),
        start_ms=midnight_ms(int(log.placed_ms[-1]), log.zone),
        duration_s=_DAY_S,
        horizon_s=_DAY_S + _RUN_DRY_S,
        orders=OrderKnobs(items_max=int(np.clip(round(2 * float(log.load.mean()) - 1), 1, 10))),
        demand=DemandKnobs(rates=tuple(rates), doors=tuple(doors), merchants=tuple(merchants)),
        riders=riders,
        merchants=kitchen,
        customers=CustomerKnobs(cancel_share=0.0, promises=tuple(fit_promises(log))),
        jobs={job: n / len(log) for job, n in sorted(job_types.items())},
    )
    return Fitted(
        scenario=scenario, orders=len(log), days=days, rates=fits, prep=prep, doors=door_fit
    )


def midnight_ms(at_ms: int, zone: str) -> int:
    """When the local day of an instant begins."""
    local = datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone))
    return int(local.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()) * 1000


def _town(log: OrderLog, door_max_m: float) -> tuple[Plane, float]:
    """The plane about the middle of the pickups, and the radius of nearly all places: no pickup is
    farther outside than `door_max_m`."""
    lat, lon = starts(log)
    plane = Plane(round(float(np.median(lat)), 6), round(float(np.median(lon)), 6))
    farthest = float(np.hypot(*plane.xy(lat, lon)).max())
    lat = np.concatenate([lat, log.door_lat[~np.isnan(log.door_lat)]])
    lon = np.concatenate([lon, log.door_lon[~np.isnan(log.door_lon)]])
    away = np.hypot(*plane.xy(lat, lon))
    radius = float(np.quantile(away, 1.0 - _EDGE_SHARE))
    radius = max(radius, farthest - door_max_m, 500.0)
    return plane, round(min(radius, 50_000.0), 0)


def write_scenario(scenario: Scenario, path: Path) -> tuple[Path, ...]:
    """Writes `path` (.yaml) and the tables of its demand beside it; gives all files.

    All of them are written or none; raises CannotWrite, naming the file.
    """
    if path.suffix not in (".yaml", ".yml"):
        raise InvalidValue("out", str(path), "a name that ends in .yaml")
    files, contents = {}, {}
    for table in TABLES:
        rows = getattr(scenario.demand, table)
        if rows:
            files[table] = path.with_name(f"{path.stem}.{table}.csv")
            contents[files[table]] = table_text(table, rows).encode()
    text = yaml.safe_dump(
        _plain(scenario, {table: file.name for table, file in files.items()}),
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
    whole_files(contents | {path: text.encode()})
    return (path, *files.values())


_OF_DRAWN_TOWNS = ("hot_spots", "hot_spot_m")


def _plain(scenario: Scenario, tables: dict[str, str]) -> dict[str, Any]:
    """What differs from the defaults, by key, and the tables by their files."""
    riders, merchants = scenario.riders, scenario.merchants
    demand = {**tables}
    if scenario.demand.factor != 1.0:
        demand["factor"] = scenario.demand.factor  # type: ignore[assignment]
    out: dict[str, Any] = {
        "name": scenario.name,
        "city": {k: v for k, v in asdict(scenario.city).items() if k not in _OF_DRAWN_TOWNS},
        "start_ms": scenario.start_ms,
        "duration_s": scenario.duration_s,
        "horizon_s": scenario.horizon_s,
        "orders": _told(scenario.orders, OrderKnobs()),
        "demand": demand,
        "riders": _told(riders, RiderKnobs(count=1, shifts=riders.shifts))
        | {"count": riders.count, "shifts": [asdict(shift) for shift in riders.shifts]},
        "merchants": _told(merchants, MerchantKnobs()),
        "customers": _told(scenario.customers, CustomerKnobs()),
        "jobs": dict(scenario.jobs),
    }
    return {key: value for key, value in out.items() if value != {}}


def _told(knobs: Any, usual: Any) -> dict[str, Any]:
    """The keys whose values are not the usual ones, as plain values."""
    own, other = asdict(knobs), asdict(usual)
    return {key: _listed(value) for key, value in own.items() if value != other[key]}


def _listed(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_listed(one) for one in value]
    if isinstance(value, dict):  # no list that is empty is told: it is the default
        return {key: _listed(one) for key, one in value.items() if one != ()}
    return value
