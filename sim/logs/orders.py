"""Rows of a file into a log of orders: each row by itself, then what rows say of each other.

Imports numpy, the job types' names and stops, and the rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dispatch.model import StopKind
from dispatch.registry import job_types
from dispatch.snapshot import NEVER
from geo.errors import InvalidValue
from sim.logs.report import Bad, Kind, Report
from sim.logs.rows import Rows, check_before, check_places, joined, kept, one_zone, wgs84, zones_of
from sim.logs.table import F8, I8, OrderLog

MINUTE_MS = 60_000
_AFTER_MAX_MIN = 7 * 24 * 60
_LOAD_MAX = 1_000
_ENDS = (("pickup_lat", "pickup_lon"), ("door_lat", "door_lon"))
_NUMBERS = ("pickup_lat", "pickup_lon", "door_lat", "door_lon", "load")
_TIMES = ("placed", "ready", "promise", "picked_up", "delivered")


@dataclass(frozen=True, slots=True, eq=False)
class OrderPiece:
    """Some rows of orders, parsed."""

    rows: Rows
    zones: list[str]
    ids: list[str]
    job: list[str]
    merchant: list[str]
    numbers: dict[str, F8]
    times: dict[str, I8]

    @classmethod
    def of(cls, rows: Rows) -> OrderPiece:
        ids = rows.needed("id")
        job = rows.needed("job_type", "delivery")
        types = job_types()
        known = np.array([not name or name in types for name in job], np.bool_)
        rows.wrong(Kind.UNKNOWN_NAME, ~known, "job_type", job, f"one of {', '.join(types)}")
        needs = {name: ends_of(types[name].stop_kinds) for name in set(job) & types.keys()}
        numbers = {}
        for end, (lat, lon) in enumerate(_ENDS):
            needed = np.array([needs.get(name, (False, False))[end] for name in job], np.bool_)
            numbers[lat], numbers[lon] = rows.numbers(lat, needed), rows.numbers(lon, needed)
            for name in (lat, lon):  # half a place is none
                numbers[name] = np.where(needed, numbers[name], np.nan)
        load = rows.numbers("load", rows.all(), "1")
        whole = np.isnan(load) | ((load >= 1) & (load == np.rint(load)) & (load <= _LOAD_MAX))
        rows.wrong(
            Kind.OUT_OF_RANGE, ~whole, "load", rows.texts("load", "1"), "a whole number above 0"
        )
        numbers["load"] = np.where(whole & ~np.isnan(load), load, 1.0)
        times = _order_times(rows)
        return cls(rows, zones_of(rows), ids, job, rows.texts("merchant"), numbers, times)


def _order_times(rows: Rows) -> dict[str, I8]:
    """What happened when, ms UTC; NEVER where nothing is said."""
    placed = rows.times("placed", rows.all())
    times = {"placed": placed}
    for name in ("ready", "promise", "picked_up", "delivered"):
        after = f"{name}_after_min"
        if rows.has(after):
            minutes = rows.numbers(after, rows.none())
            fits = np.isnan(minutes) | (np.abs(minutes) <= _AFTER_MAX_MIN)
            expected = f"minutes, at most {_AFTER_MAX_MIN}"
            rows.wrong(Kind.OUT_OF_RANGE, ~fits, after, rows.texts(after), expected)
            told = fits & ~np.isnan(minutes)
            after_ms = np.rint(np.where(told, minutes, 0.0) * MINUTE_MS).astype(np.int64)
            times[name] = np.where(told, placed + after_ms, NEVER)
        else:
            at_ms = rows.times(name, rows.none(), NEVER)
            times[name] = rows.past_midnight(name, at_ms, placed, NEVER)
    early = (times["ready"] < placed) & ~rows.bad
    if early.any():
        rows.report.mended["ready before placement, taken as ready then"] += int(early.sum())
        times["ready"] = np.maximum(times["ready"], placed)
    return times


def order_log(report: Report, pieces: list[OrderPiece], bad: Bad) -> OrderLog:
    """The checks across rows, and the log of what stood them; raises BadLog, see `kept`."""
    if not pieces:
        raise InvalidValue(report.file, "no rows", "at least one order")
    rows = joined([piece.rows for piece in pieces])
    ids = [name for piece in pieces for name in piece.ids]
    number = {name: np.concatenate([p.numbers[name] for p in pieces]) for name in _NUMBERS}
    time = {name: np.concatenate([p.times[name] for p in pieces]) for name in _TIMES}
    placed = time["placed"]
    zone = one_zone(rows, [name for piece in pieces for name in piece.zones])
    rows.once("id", ids)
    check_places(rows, [(lat, lon, number[lat], number[lon]) for lat, lon in _ENDS], zone)
    check_before(rows, Kind.PROMISE_BEFORE_PLACEMENT, "promise", time["promise"], "placed", placed)
    picked_up, delivered = time["picked_up"], time["delivered"]
    check_before(rows, Kind.PICKUP_BEFORE_PLACEMENT, "picked_up", picked_up, "placed", placed)
    since = np.where(picked_up < NEVER, picked_up, placed)
    check_before(rows, Kind.DROP_OFF_BEFORE_PICKUP, "delivered", delivered, "picked_up", since)
    if not rows.mapping.any_order:
        rows.rising("placed", placed)
    keep = kept(rows, report, bad, "order")
    if rows.mapping.any_order:
        keep = keep[np.argsort(placed[keep], kind="stable")]
    job = [name for piece in pieces for name in piece.job]
    merchant = [name for piece in pieces for name in piece.merchant]
    pickup = wgs84(rows, number["pickup_lat"][keep], number["pickup_lon"][keep])
    door = wgs84(rows, number["door_lat"][keep], number["door_lon"][keep])
    return OrderLog(
        zone=zone,
        id=tuple(ids[i] for i in keep.tolist()),
        placed_ms=placed[keep],
        job_type=tuple(job[i] for i in keep.tolist()),
        merchant=tuple(merchant[i] for i in keep.tolist()),
        pickup_lat=pickup[0],
        pickup_lon=pickup[1],
        door_lat=door[0],
        door_lon=door[1],
        ready_ms=time["ready"][keep],
        promise_ms=time["promise"][keep],
        load=number["load"][keep].astype(np.int64),
    )


def ends_of(kinds: tuple[StopKind, ...]) -> tuple[bool, bool]:
    """Whether a job has a pickup, and a door."""
    return StopKind.PICKUP in kinds, any(kind is not StopKind.PICKUP for kind in kinds)
