"""Rows of a file into a log of couriers; imports numpy and the rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geo.errors import InvalidValue
from sim.logs.mapping import Area
from sim.logs.report import Bad, Kind, Report
from sim.logs.rows import Rows, check_before, check_swapped, joined, kept, one_zone, wgs84, zones_of
from sim.logs.table import F8, I8, VEHICLES, CourierLog


@dataclass(frozen=True, slots=True, eq=False)
class CourierPiece:
    """Some rows of couriers, parsed."""

    rows: Rows
    zones: list[str]
    ids: list[str]
    vehicle: list[str]
    lat: F8
    lon: F8
    on_ms: I8
    off_ms: I8

    @classmethod
    def of(cls, rows: Rows) -> CourierPiece:
        ids, vehicle = rows.needed("id"), rows.needed("vehicle", "scooter")
        known = np.array([not name or name in VEHICLES for name in vehicle], np.bool_)
        rows.wrong(Kind.UNKNOWN_NAME, ~known, "vehicle", vehicle, f"one of {', '.join(VEHICLES)}")
        lat, lon = rows.numbers("lat", rows.all()), rows.numbers("lon", rows.all())
        on_ms, off_ms = rows.times("on", rows.all()), rows.times("off", rows.all())
        off_ms = rows.past_midnight("off", off_ms, on_ms)
        return cls(rows, zones_of(rows), ids, vehicle, lat, lon, on_ms, off_ms)


def courier_log(
    report: Report, pieces: list[CourierPiece], bad: Bad, near: Area | None = None
) -> CourierLog:
    """The checks across rows, and the log of what stood them; raises BadLog, see `kept`. `near` is
    where the city lies, if its orders say so."""
    if not pieces:
        raise InvalidValue(report.file, "no rows", "at least one courier")
    rows = joined([piece.rows for piece in pieces])
    ids = [name for piece in pieces for name in piece.ids]
    on_ms = np.concatenate([piece.on_ms for piece in pieces])
    off_ms = np.concatenate([piece.off_ms for piece in pieces])
    zone = one_zone(rows, [name for piece in pieces for name in piece.zones])
    lat = np.concatenate([piece.lat for piece in pieces])
    lon = np.concatenate([piece.lon for piece in pieces])
    check_before(rows, Kind.OFF_BEFORE_ON, "off", off_ms, "on", on_ms)
    rows.once_at_a_time("id", ids, on_ms, off_ms)
    check_swapped(rows, ("lat", "lon", lat, lon), zone, near)
    keep = kept(rows, report, bad, "courier")
    vehicle = [name for piece in pieces for name in piece.vehicle]
    lat, lon = wgs84(rows, lat[keep], lon[keep])
    return CourierLog(
        zone=zone,
        id=tuple(ids[i] for i in keep.tolist()),
        vehicle=tuple(vehicle[i] for i in keep.tolist()),
        lat=lat,
        lon=lon,
        on_ms=on_ms[keep],
        off_ms=off_ms[keep],
    )
