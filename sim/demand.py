"""The orders of a scenario, drawn beforehand: who asks for what, when; uses numpy.

All chance about an order is drawn here, each kind from a stream of its own, so that dispatching it
otherwise changes nothing about the order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from dispatch.model import Order, Place, StopKind, Value
from dispatch.registry import OrderForm, StopForm, job_type
from dispatch.snapshot import NEVER
from geo.errors import InvalidValue
from sim.arrivals import NOTHING, Batch, draw_batches
from sim.city import F8, I8, City
from sim.doors import DoorLaw
from sim.hours import LocalTime, local_time
from sim.prep import congested, late_ms, prep_ms
from sim.scenario import Promise, Scenario
from sim.weather import Causes, draw_rain

_BLOCK = 1_024
"""So many rows are made Python's numbers at once: one by one takes ten times as long."""
_PICKUP = StopKind.PICKUP


class OrderRequest(Value, frozen=True, kw_only=True):
    """One customer's wish. `order_id` names it in the simulator; a live server gives its own.

    The form's pickup is ready, as told, at its `earliest_ms`, and truly at `ready_ms`. The customer
    cancels at `cancel_at_ms` what is not picked up by then, or never (None). `promise_ms` is what
    a real day has promised; None for what the job type promises. `given` is the whole order where
    it was recorded: then the form is not looked at. One who does not come to the door lets the
    rider wait there for `no_answer_ms`; who has the goods gives `tip_fen`.
    """

    order_id: str
    at_ms: int
    job_type: str
    form: OrderForm
    ready_ms: int
    cancel_at_ms: int | None
    promise_ms: int | None = None
    no_answer_ms: int | None = None
    tip_fen: int = 0
    given: Order | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Demand:
    """n order requests by time, as columns of n rows; `request(i)` gives one as a value.

    `merchant` is an index into `merchants`, the merchants' ids, or -1 for nobody's; `job` one into
    `jobs`. Places are WGS-84 degrees, of any value where the job type has no such stop. The goods
    are ready `prep_ms` after the placement, as told (NEVER: nothing is told), and in truth
    `late_ms` later than told (or than the placement). `cancel_after_ms` is NEVER for a customer
    who does not cancel, `promise_ms` an instant, NEVER for what the job type promises. Orders have
    the ids `ids`, or numbers if there are none. `no_answer_ms` is NEVER where somebody comes to the
    door; without it, as without `tip_fen`, that is so for all.
    """

    at_ms: I8
    jobs: tuple[str, ...]
    job: I8
    merchants: tuple[str, ...]
    merchant: I8
    pickup_lat: F8
    pickup_lon: F8
    door_lat: F8
    door_lon: F8
    prep_ms: I8
    late_ms: I8
    cancel_after_ms: I8
    promise_ms: I8
    items: I8
    ids: tuple[str, ...] = ()
    no_answer_ms: I8 | None = None
    tip_fen: I8 | None = None
    _block: list[Any] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.at_ms)
        for f in fields(self):
            column = getattr(self, f.name)
            if isinstance(column, np.ndarray) and column.shape != (n,):
                raise InvalidValue(f"demand.{f.name}", column.shape, f"{n} rows, as at_ms has")
        if self.ids and len(self.ids) != n:
            raise InvalidValue("demand.ids", len(self.ids), f"{n} ids, as at_ms has rows, or none")
        if (np.diff(self.at_ms) < 0).any():
            raise InvalidValue("demand.at_ms", "falling", "instants that never fall")

    def __len__(self) -> int:
        return len(self.at_ms)

    def before(self, at_ms: int) -> Demand:
        """The requests of before that instant."""
        n = int(np.searchsorted(self.at_ms, at_ms))
        columns = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        cut: dict[str, Any] = {k: c[:n] for k, c in columns.items() if isinstance(c, np.ndarray)}
        return replace(self, ids=self.ids[:n], **cut)

    def tips(self) -> dict[str, int]:
        """What riders are given once they have delivered, fen by order id."""
        if self.tip_fen is None:
            return {}
        rows = np.flatnonzero(self.tip_fen).tolist()
        return {self._id(row): int(self.tip_fen[row]) for row in rows}

    def _id(self, i: int) -> str:
        return self.ids[i] if self.ids else f"o{i:07d}"

    def request(self, i: int) -> OrderRequest:
        """The i-th request. Raises IndexError beyond the last, UnknownName for its job type."""
        first = i - i % _BLOCK
        if self._block[:1] != [first]:
            self._block[:] = [first, self._rows(slice(first, first + _BLOCK))]
        (
            at_ms, job, merchant, lat, lon, door_lat, door_lon, prep_ms, late_ms, cancel_ms,
            promise_ms, items, no_answer_ms, tip_fen,
        ) = self._block[1][i - first]  # fmt: skip
        told_ms = at_ms + prep_ms if prep_ms < NEVER else None
        merchant_id = self.merchants[merchant] if merchant >= 0 else ""
        pickup = StopForm(place=Place(lat=lat, lon=lon), earliest_ms=told_ms, place_id=merchant_id)
        door = StopForm(place=Place(lat=door_lat, lon=door_lon))
        kinds = job_type(self.jobs[job]).stop_kinds
        order_id = self._id(i)
        return OrderRequest(
            order_id=order_id,
            at_ms=at_ms,
            job_type=self.jobs[job],
            form=OrderForm(
                customer_id="c" + order_id.removeprefix("o"),
                merchant_id=merchant_id,
                stops=tuple([pickup if kind is _PICKUP else door for kind in kinds]),
                load=(items,),
            ),
            ready_ms=(at_ms if told_ms is None else told_ms) + late_ms,
            cancel_at_ms=None if cancel_ms >= NEVER else at_ms + cancel_ms,
            promise_ms=None if promise_ms >= NEVER else promise_ms,
            no_answer_ms=None if no_answer_ms >= NEVER else no_answer_ms,
            tip_fen=tip_fen,
        )

    def _rows(self, rows: slice) -> list[tuple[Any, ...]]:
        """What `request` reads of these rows, as Python's own numbers."""
        count = len(self.at_ms[rows])
        never = [NEVER] * count if self.no_answer_ms is None else self.no_answer_ms[rows].tolist()
        tips = [0] * count if self.tip_fen is None else self.tip_fen[rows].tolist()
        columns = (
            self.at_ms, self.job, self.merchant, self.pickup_lat, self.pickup_lon, self.door_lat,
            self.door_lon, self.prep_ms, self.late_ms, self.cancel_after_ms, self.promise_ms,
            self.items,
        )  # fmt: skip
        return list(zip(*(column[rows].tolist() for column in columns), never, tips, strict=True))


def draw_demand(scenario: Scenario, city: City, seed: int) -> Demand:
    """The same orders for the same scenario, city and seed."""
    end_ms = scenario.start_ms + scenario.duration_s * 1000
    local = local_time(scenario.start_ms, end_ms, scenario.city.zone)
    causes = Causes(scenario, draw_rain(scenario, seed), local)
    law = DoorLaw(scenario, city)
    parts, ids = [_columns(scenario, city, NOTHING, law, local)], []
    for batch in draw_batches(scenario, city, seed, causes, local):
        part = _columns(scenario, city, batch, law, local)
        rows = np.arange(len(batch.at_ms)) if batch.keep is None else np.flatnonzero(batch.keep)
        parts.append({name: column[rows] for name, column in part.items()})
        ids += [f"{batch.prefix}{row:07d}" for row in rows.tolist()]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(columns["at_ms"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    knobs, merchant = scenario.merchants.congestion, columns["merchant"]
    if knobs.share_per_order:
        congested(knobs, columns["at_ms"], merchant, columns["prep_ms"], columns["late_ms"])
    lat, lon = city.plane.lat_lon(city.x, city.y)
    door_lat, door_lon = city.plane.lat_lon(columns.pop("door_x"), columns.pop("door_y"))
    return Demand(
        jobs=tuple(scenario.jobs),
        merchants=city.ids,
        pickup_lat=lat[merchant],
        pickup_lon=lon[merchant],
        door_lat=door_lat,
        door_lon=door_lon,
        ids=tuple(ids[row] for row in order.tolist()),
        **columns,
    )


def _columns(
    scenario: Scenario, city: City, batch: Batch, law: DoorLaw, local: LocalTime
) -> dict[str, Any]:
    """The columns of a batch's orders, doors in metres; each kind of chance from its own stream."""
    streams, merchant, count = batch.streams, batch.merchant, len(batch.at_ms)
    door_x, door_y = law.draw(merchant, streams)
    hour = local.quarter[local.bins(batch.at_ms)] // 4
    prep = prep_ms(scenario, city, merchant, hour, streams("prep").standard_normal(count))
    rng = streams("late")
    late = late_ms(scenario, city, merchant, rng.random(count), rng.standard_exponential(count))

    knobs = scenario.customers
    rng = streams("cancel")
    cancels = rng.random(count) < knobs.cancel_share
    patience_ms = knobs.patience_s * rng.uniform(0.5, 1.5, count) * 1000
    tip_fen, no_answer_ms = np.zeros(count, np.int64), np.full(count, NEVER, np.int64)
    if knobs.tip_share:
        rng = streams("tips")
        tips = rng.random(count) < knobs.tip_share
        tip_fen[tips] = np.rint(knobs.tip_fen * rng.standard_exponential(count))[tips]
    if knobs.unreachable_share:
        away = streams("unreachable").random(count) < knobs.unreachable_share
        no_answer_ms[away] = int(knobs.wait_s * 1000)
    return {
        "at_ms": batch.at_ms,
        "merchant": merchant,
        "job": batch.job,
        "door_x": door_x,
        "door_y": door_y,
        "prep_ms": prep.astype(np.int64),
        "late_ms": late.astype(np.int64),
        "cancel_after_ms": np.where(cancels, patience_ms, NEVER).astype(np.int64),
        "items": streams("items").integers(1, scenario.orders.items_max + 1, count),
        "no_answer_ms": no_answer_ms,
        "tip_fen": tip_fen,
        "promise_ms": _promises(knobs.promises, batch),
    }


def _promises(promises: Sequence[Promise], batch: Batch) -> I8:
    """When each order is promised; NEVER for what its job type promises."""
    count = len(batch.at_ms)
    if not promises:
        return np.full(count, NEVER, np.int64)
    after_ms = np.array([round(p.minutes * 60_000) for p in promises] + [NEVER], np.int64)
    ends = np.cumsum([p.share for p in promises])
    ends[-1] = 1.0 if ends[-1] > 1.0 - 1e-4 else ends[-1]  # rounded shares leave nobody over
    row = np.searchsorted(ends, batch.streams("promises").random(count), side="right")
    return np.where(row < len(promises), batch.at_ms + after_ms[row], NEVER)
