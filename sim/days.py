"""A real day from its logs: the orders as they were asked for, the couriers as they came on.

Imports the logs, numpy and what a day is made of; reads no file.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from dispatch import events as e
from dispatch.model import Place, Rider
from dispatch.policy import Policy
from dispatch.registry import job_type
from dispatch.snapshot import NEVER
from dispatch.vehicles import ITEMS, LEGAL_SPEED_MPS, MEAN_KMH
from geo.distance import Plane
from geo.errors import InvalidValue
from sim.crew import Member
from sim.day import Day
from sim.demand import Demand
from sim.logs.mapping import RADIUS_M
from sim.logs.orders import ends_of
from sim.logs.table import F8, CourierLog, OrderLog, vehicle_of
from sim.scenario import (
    CityKnobs,
    MerchantKnobs,
    OrderKnobs,
    RiderKnobs,
    Scenario,
    Shift,
    TravelKnobs,
)
from sim.streams import stream
from sim.tally import Kpis

MINUTE_MS = 60_000
DAY_MS = 86_400_000
_DAYS_MAX = 6
DETOUR = 1.4
"""Streets by the beeline; a day's own streets are not in its log."""
SPEED_MIN_MPS = 0.5
RUN_DRY_S = 3 * 3600
"""After the last order is placed and ready so much time is left to bring it."""

DAY_POLICY = Policy(version="day", tick_ms=5_000, look_ahead_ms=120_000)
"""A log's orders may be ready an hour after they were placed: until two minutes before its rider is
told, an order costs no round."""


@dataclass(frozen=True, slots=True, eq=False)
class RealDay:
    """A day to simulate, and what became of the couriers of its log: `never_on` were on for no
    time, `elsewhere` in another city, `thinned` left out because fewer were asked for. `too_large`
    counts orders that are more than anybody can carry: nobody takes them."""

    day: Day
    couriers: int
    never_on: int
    elsewhere: int
    thinned: int
    too_large: int


def real_day(
    name: str,
    orders: OrderLog,
    couriers: CourierLog,
    seed: int,
    *,
    share: float = 1.0,
    told: bool = True,
    policy: Policy | None = None,
) -> RealDay:
    """The day of the logs, from midnight, local time, before its first order.

    Orders come when they were placed and are ready when the log says; the engine is told so at
    placement, unless not `told`. `share` of the couriers ride: each has a number of his own by the
    seed, so that a larger share has all couriers of a smaller one, as fast and as willing. Raises
    InvalidValue for a log without orders, or a share that leaves no courier.
    """
    if not len(orders):
        raise InvalidValue("orders", 0, "at least one order")
    days = int(orders.placed_ms[-1] - orders.placed_ms[0]) // DAY_MS
    if days >= _DAYS_MAX:
        raise InvalidValue("orders", f"{days} days", "one day of them: --date 2026-03-02")
    if not 0.0 < share <= 1.0:
        raise InvalidValue("couriers", share, "a share above 0, at most 1")
    plane = _plane(orders)
    x, y = plane.xy(couriers.lat, couriers.lon)
    never_on = couriers.off_ms <= couriers.on_ms
    elsewhere = ~never_on & (np.hypot(x, y) > RADIUS_M)
    # Drawn by courier, so that all his shifts are ridden or none.
    chosen = (stream(seed, "day", "couriers").random(len(couriers)) < share)[couriers.who()]
    rows = np.flatnonzero(~never_on & ~elsewhere & chosen)
    if not len(rows):
        raise InvalidValue(
            "couriers", share, f"a share that leaves one of {len(couriers)} couriers"
        )
    scenario = _scenario(name, orders, len(rows), plane, policy or DAY_POLICY)
    crew = _crew(scenario, couriers, rows, x, y, seed)
    day = Day(scenario=scenario, demand=demand_of(orders, told=told), crew=crew)
    return RealDay(
        day=day,
        couriers=len(couriers),
        never_on=int(never_on.sum()),
        elsewhere=int(elsewhere.sum()),
        too_large=int((orders.load > max(m.rider.capacity[0] for m in crew)).sum()),
        thinned=int((~never_on & ~elsewhere & ~chosen).sum()),
    )


def of_date(orders: OrderLog, couriers: CourierLog, text: str) -> tuple[OrderLog, CourierLog]:
    """What a log of several days has of one local date: its orders, and the shifts that reach into
    it. InvalidValue, naming the dates, for one without orders."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise InvalidValue("--date", text, "a day as 2026-03-02") from None
    zone = ZoneInfo(orders.zone)
    from_ms, to_ms = (
        int(datetime(d.year, d.month, d.day, tzinfo=zone).timestamp()) * 1000
        for d in (day, day + timedelta(days=1))
    )
    if from_ms <= orders.placed_ms[0] and orders.placed_ms[-1] <= to_ms:
        return orders, couriers  # a log of that day, or of times of the day, up to 24:00
    mine = (orders.placed_ms >= from_ms) & (orders.placed_ms < to_ms)
    if not mine.any():
        first, last = (
            datetime.fromtimestamp(int(ms) / 1000, zone).date() for ms in orders.placed_ms[[0, -1]]
        )
        raise InvalidValue("--date", text, f"a date of the log, {first} to {last}")
    on = couriers.take((couriers.on_ms < to_ms) & (couriers.off_ms > from_ms))
    return orders.take(mine), replace(on, on_ms=np.maximum(on.on_ms, from_ms))


def demand_of(orders: OrderLog, *, told: bool = True) -> Demand:
    """The log's orders as requests; without `told` nobody hears when they will be ready."""
    shop = orders.shops()
    firsts = np.unique(shop[shop >= 0], return_index=True)[1]
    rows = np.flatnonzero(shop >= 0)[firsts]
    merchants = tuple(orders.merchant[row] or f"p{n:05d}" for n, row in enumerate(rows.tolist()))
    known = orders.ready_ms < NEVER
    prep_ms = np.where(known, orders.ready_ms - orders.placed_ms, NEVER)
    nothing = np.zeros(len(orders), np.int64)
    jobs = tuple(dict.fromkeys(orders.job_type))
    number = {name: n for n, name in enumerate(jobs)}
    return Demand(
        at_ms=orders.placed_ms,
        jobs=jobs,
        job=np.array([number[name] for name in orders.job_type], np.int64),
        merchants=merchants,
        merchant=shop,
        pickup_lat=orders.pickup_lat,
        pickup_lon=orders.pickup_lon,
        door_lat=orders.door_lat,
        door_lon=orders.door_lon,
        prep_ms=prep_ms if told else nothing + NEVER,
        late_ms=nothing if told else np.where(known, prep_ms, 0),
        cancel_after_ms=nothing + NEVER,
        promise_ms=orders.promise_ms,
        items=orders.load,
        ids=orders.id,
    )


def log_of(demand: Demand, zone: str) -> OrderLog:
    """Requests as the log that a city would have of them; the inverse of `demand_of`.

    What a job type promises is not in it: promises are NEVER unless the day gives them.
    """
    stops = [ends_of(job_type(name).stop_kinds) for name in demand.jobs]
    pickup, door = np.array(stops, np.bool_).T[:, demand.job]
    told = demand.prep_ms < NEVER
    ids = demand.ids or tuple(demand.request(i).order_id for i in range(len(demand)))
    merchants = (*demand.merchants, "")  # -1 is nobody's
    return OrderLog(
        zone=zone,
        id=ids,
        placed_ms=demand.at_ms,
        job_type=tuple(demand.jobs[n] for n in demand.job.tolist()),
        merchant=tuple(merchants[n] for n in demand.merchant.tolist()),
        pickup_lat=np.where(pickup, demand.pickup_lat, np.nan),
        pickup_lon=np.where(pickup, demand.pickup_lon, np.nan),
        door_lat=np.where(door, demand.door_lat, np.nan),
        door_lon=np.where(door, demand.door_lon, np.nan),
        ready_ms=np.where(told, demand.at_ms + np.where(told, demand.prep_ms, 0), NEVER),
        promise_ms=demand.promise_ms,
        load=demand.items,
    )


class DayBook:
    """Takes every event of a run and adds what only the log can tell: when the goods were ready."""

    def __init__(self, orders: OrderLog) -> None:
        self._orders = orders
        self._row = {order_id: row for row, order_id in enumerate(orders.id)}
        self._picked_up_ms = np.zeros(len(orders), np.int64)
        self._done_ms = np.zeros(len(orders), np.int64)

    def add(self, event: e.Event | e.RiderEvent) -> None:
        """One more event, in order."""
        if isinstance(event, e.RiderEvent):
            return
        fact = event.fact
        if isinstance(fact, e.StopDone) and fact.stop == 0:
            self._picked_up_ms[self._row[event.order_id]] = event.at_ms
        elif isinstance(fact, e.Finished):
            self._done_ms[self._row[event.order_id]] = event.at_ms

    def result(self, speed_mps: float) -> Kpis:
        """Minutes from ready to the pickup and to the door, and the share of the log's promises
        that could be kept at all: with a courier of `speed_mps` in the shop when the goods were
        ready, and no time for handing them over."""
        orders = self._orders
        known = (self._done_ms > 0) & (orders.ready_ms < NEVER)
        ready_ms = orders.ready_ms[known]
        picked_up = (self._picked_up_ms[known] - ready_ms) / MINUTE_MS
        door = (self._done_ms[known] - ready_ms) / MINUTE_MS
        promised = (orders.promise_ms < NEVER) & ~np.isnan(orders.pickup_lat + orders.door_lat)
        some, every = bool(known.any()), int(promised.sum())
        return {
            "ready_to_pickup_mean_min": float(picked_up.mean()) if some else None,
            "ready_to_pickup_p95_min": float(np.percentile(picked_up, 95)) if some else None,
            "ready_to_door_mean_min": float(door.mean()) if some else None,
            "ready_to_door_p95_min": float(np.percentile(door, 95)) if some else None,
            "promises_logged": every,
            "promises_possible_share": (
                float(self._possible(promised, speed_mps).mean()) if every else None
            ),
        }

    def _possible(self, rows: np.ndarray, speed_mps: float) -> np.ndarray:
        orders = self._orders
        plane = _plane(orders)
        x1, y1 = plane.xy(orders.pickup_lat[rows], orders.pickup_lon[rows])
        x2, y2 = plane.xy(orders.door_lat[rows], orders.door_lon[rows])
        ride_ms = np.hypot(x2 - x1, y2 - y1) * DETOUR / speed_mps * 1000
        ready_ms = np.where(orders.ready_ms < NEVER, orders.ready_ms, orders.placed_ms)[rows]
        return np.asarray(ready_ms + ride_ms <= orders.promise_ms[rows])


def fastest_mps(crew: tuple[Member, ...]) -> float:
    """The mean speed of the fastest kind of vehicle in the crew."""
    return max(MEAN_KMH[member.rider.vehicle] for member in crew) / 3.6


def _plane(orders: OrderLog) -> Plane:
    """About the middle of where orders start."""
    pickups = ~np.isnan(orders.pickup_lat)
    lat, lon = orders.door_lat[~pickups], orders.door_lon[~pickups]
    lat = np.concatenate([orders.pickup_lat[pickups], lat])
    lon = np.concatenate([orders.pickup_lon[pickups], lon])
    return Plane(float(np.median(lat)), float(np.median(lon)))


def _scenario(name: str, orders: OrderLog, riders: int, plane: Plane, policy: Policy) -> Scenario:
    first = datetime.fromtimestamp(int(orders.placed_ms[0]) / 1000, ZoneInfo(orders.zone))
    midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
    start_ms = int(midnight.timestamp()) * 1000
    duration_s = int(orders.placed_ms[-1] - start_ms) // 1000 + 1
    ready_ms = orders.ready_ms[orders.ready_ms < NEVER]
    last_ms = int(max(orders.placed_ms[-1], ready_ms.max(initial=0)))
    shops = int(orders.shops().max()) + 1
    jobs = {job: orders.job_type.count(job) / len(orders) for job in dict.fromkeys(orders.job_type)}
    return Scenario(
        name=name,
        city=CityKnobs(name=name, lat=plane.lat0, lon=plane.lon0, radius_m=RADIUS_M, hot_spots=1),
        start_ms=start_ms,
        duration_s=duration_s,
        horizon_s=(last_ms - start_ms) // 1000 + RUN_DRY_S,
        orders=OrderKnobs(count=len(orders)),
        riders=RiderKnobs(count=riders, shifts=(Shift(start_h=0.0, hours=24.0),)),
        merchants=MerchantKnobs(count=max(shops, 1)),
        jobs=jobs,
        travel=TravelKnobs(detour=DETOUR),
        policy=policy,
    )


def _riders(couriers: CourierLog) -> list[str]:
    """A rider for each shift: the courier's name, and a number behind it from his second on."""
    nth: Counter[str] = Counter()
    names = [""] * len(couriers)
    for i in np.argsort(couriers.on_ms, kind="stable").tolist():
        own = couriers.id[i]
        nth[own] += 1
        names[i] = own if nth[own] == 1 else f"{own}#{nth[own]}"
    return names


def _crew(
    scenario: Scenario, couriers: CourierLog, rows: np.ndarray, x: F8, y: F8, seed: int
) -> tuple[Member, ...]:
    knobs, city = scenario.riders, scenario.city.name
    spread = stream(seed, "day", "speeds").standard_normal(len(couriers))[couriers.who()]
    names = _riders(couriers)
    vehicle = [vehicle_of(name) for name in couriers.vehicle]
    mean = np.array([MEAN_KMH[name] for name in vehicle]) / 3.6
    most = np.array([LEGAL_SPEED_MPS[name] for name in vehicle])
    speed = np.clip(mean * (1.0 + knobs.speed_spread * spread), SPEED_MIN_MPS, most)
    lat, lon = couriers.lat.tolist(), couriers.lon.tolist()
    on_ms, off_ms = couriers.on_ms.tolist(), couriers.off_ms.tolist()
    return tuple(
        Member(
            rider=Rider(
                id=names[i],
                city=city,
                vehicle=vehicle[i],
                speed_mps=float(speed[i]),
                capacity=(ITEMS[vehicle[i]],),
            ),
            x=float(x[i]),
            y=float(y[i]),
            place=Place(lat=lat[i], lon=lon[i]),
            shift_start_ms=on_ms[i],
            shift_end_ms=off_ms[i],
        )
        for i in rows.tolist()
    )
