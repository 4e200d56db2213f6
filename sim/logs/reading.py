"""Files and folders into logs, each with the report of what was bad in it; reads files.

Imports the readers of the benchmark's days (`sim.mdrp.instance`), for which it lays their plane
about a point.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from geo.distance import Plane
from geo.errors import InvalidValue, MissingFile
from sim.logs.cells import CSV, PARQUET, cells, header
from sim.logs.couriers import CourierPiece, courier_log
from sim.logs.mapping import ALL, COURIER_COLUMNS, ORDER_COLUMNS, Area, Mapping, chosen
from sim.logs.orders import OrderPiece, order_log
from sim.logs.report import Bad, Finding, Kind, Report
from sim.logs.rows import Rows
from sim.logs.table import F8, CourierLog, OrderLog
from sim.mdrp.instance import read_instance

MINUTE_MS = 60_000
MDRP_MIDNIGHT_MS = 1_514_764_800_000
"""The benchmark's files have minutes of a day only: it is 1 January 2018, UTC."""
ORDERS_NAME, COURIERS_NAME = "orders.csv", "couriers.csv"
MDRP_NAME = "instance_parameters.txt"

Log = TypeVar("Log", OrderLog, CourierLog)


@dataclass(frozen=True, slots=True)
class Read(Generic[Log]):
    """A log, and what was found while it was read."""

    log: Log
    report: Report


def read_log(
    path: Path,
    mapping: Mapping | None = None,
    *,
    bad: Bad = Bad.STOP,
    zone: str | None = None,
    day: str | None = None,
) -> Read[OrderLog]:
    """The orders of a CSV or Parquet file, of a day's folder, or of a benchmark day's folder.

    `mapping` says how a file is read that is neither ours nor of a format that ships; `zone` and
    `day` stand for its own. Raises BadLog for bad rows unless they are to be dropped; MissingFile,
    UnknownKey or InvalidValue for what cannot be read at all.
    """
    if path.is_dir():
        if (path / MDRP_NAME).is_file():
            return read_mdrp(path)
        if not (path / ORDERS_NAME).is_file():
            raise MissingFile(str(path / ORDERS_NAME), f"orders (or {MDRP_NAME}, for a benchmark)")
        path = path / ORDERS_NAME
    report, pieces = _pieces(path, ORDER_COLUMNS, mapping, zone, day)
    return Read(order_log(report, [OrderPiece.of(piece) for piece in pieces], bad), report)


def read_couriers(
    path: Path,
    mapping: Mapping | None = None,
    *,
    bad: Bad = Bad.STOP,
    zone: str | None = None,
    day: str | None = None,
    near: Area | None = None,
) -> Read[CourierLog]:
    """The couriers of a CSV or Parquet file, or of a day's folder; as `read_log`. `near` is where
    their orders are (`order_area`): who is there with lat and lon changed round is told."""
    path = path / COURIERS_NAME if path.is_dir() else path
    report, pieces = _pieces(path, COURIER_COLUMNS, mapping, zone, day)
    return Read(
        courier_log(report, [CourierPiece.of(piece) for piece in pieces], bad, near), report
    )


def order_area(orders: OrderLog) -> Area:
    """The city of a log: about the middle of where its orders begin."""
    bare = np.isnan(orders.pickup_lat)
    lat = np.where(bare, orders.door_lat, orders.pickup_lat)
    lon = np.where(bare, orders.door_lon, orders.pickup_lon)
    return Area(lat=float(np.median(lat)), lon=float(np.median(lon)))


def read_mdrp(folder: Path, lat: float = 0.0, lon: float = 0.0) -> Read[OrderLog]:
    """The orders of a day of the Meal Delivery Routing Problem; raises what `read_instance` does.

    Its metres lie in the plane about (lat, lon), by default on the equator, where the plane is a
    plain scale. The target click-to-door stands for the promise.
    """
    day, plane = read_instance(folder), Plane(lat, lon)
    orders = sorted(day.orders, key=lambda order: order.placed_min)
    shops = [day.restaurants[order.restaurant] for order in orders]
    placed_ms = np.array([MDRP_MIDNIGHT_MS + o.placed_min * MINUTE_MS for o in orders], np.int64)
    ready_ms = np.array([MDRP_MIDNIGHT_MS + o.ready_min * MINUTE_MS for o in orders], np.int64)

    def degrees(x: list[float], y: list[float]) -> tuple[F8, F8]:
        return plane.lat_lon(np.array(x, np.float64), np.array(y, np.float64))

    pickup_lat, pickup_lon = degrees([s.x for s in shops], [s.y for s in shops])
    door_lat, door_lon = degrees([o.x for o in orders], [o.y for o in orders])
    log = OrderLog(
        zone="UTC",
        id=tuple(order.id for order in orders),
        placed_ms=placed_ms,
        job_type=("delivery",) * len(orders),
        merchant=tuple(shop.id for shop in shops),
        pickup_lat=pickup_lat,
        pickup_lon=pickup_lon,
        door_lat=door_lat,
        door_lon=door_lon,
        ready_ms=ready_ms,
        promise_ms=placed_ms + day.target_min * MINUTE_MS,
        load=np.ones(len(orders), np.int64),
    )
    return Read(log, Report(file=str(folder), rows=len(log), kept=len(log)))


def _pieces(
    path: Path, ours: tuple[str, ...], mapping: Mapping | None, zone: str | None, day: str | None
) -> tuple[Report, Iterator[Rows]]:
    """The rows of a file, piece by piece, and the report that they are told to."""
    if path.suffix.lower() not in (*PARQUET, *CSV):
        raise InvalidValue("log", str(path), f"a folder, or a file {', '.join((*CSV, *PARQUET))}")
    how = (mapping.encoding, mapping.delimiter) if mapping is not None else ("utf-8-sig", ",")
    names = header(path, *how)
    mapping, report = chosen(names, ours, mapping, zone=zone, day=day), Report(file=str(path))
    wanted = list(dict.fromkeys(mapping.columns.values()))
    for name, theirs in mapping.columns.items():
        if theirs not in names:
            raise InvalidValue(f"{path} line 1", names, f"a column {theirs!r}, our {name}")
    if ALL not in mapping.ignore:
        expected = f"one of {', '.join((*wanted, *mapping.ignore))}, or to be in ignore"
        for name in names:
            if name not in wanted and name not in mapping.ignore:
                report.add(Finding(Kind.UNKNOWN_COLUMN, 1, name, name, expected))
    pieces = (Rows.of(piece, mapping, report) for piece in cells(path, wanted, *how))
    return report, pieces
