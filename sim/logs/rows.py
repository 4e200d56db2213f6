"""Rows of a file while they are read and checked: what is bad is marked, and told to the report.

Imports numpy and the parsers; nothing here knows what an order or a courier is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sys import intern
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from geo.datum import System, from_wgs84, to_wgs84
from geo.distance import haversine_m
from geo.errors import InvalidValue
from sim.logs import parse
from sim.logs.cells import Cells
from sim.logs.mapping import Area, Mapping, day_of
from sim.logs.parse import DAY_MS, Fits
from sim.logs.report import Bad, BadLog, Finding, Kind, Report
from sim.logs.table import F8, I8, check_zone

HALF_DAY_MS = DAY_MS // 2


@dataclass(slots=True, eq=False)
class Rows:
    """Rows by where they stand in their file (`row`); `bad` are those that a finding names."""

    mapping: Mapping
    report: Report
    row: I8
    bad: Fits
    zone: ZoneInfo | None
    cells: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, cells: Cells, mapping: Mapping, report: Report) -> Rows:
        """The rows of a piece of the file; those with too many or too few cells are told of."""
        report.rows += len(cells.row) + len(cells.ragged)
        report.bad_rows += len(cells.ragged)
        for row, count in cells.ragged:
            told = f"{count} cells", "as many cells as the header has"
            report.add(Finding(Kind.CELLS, row, "the row", *told))
        zone = ZoneInfo(mapping.zone) if mapping.zone is not None else None
        bad = np.zeros(len(cells.row), np.bool_)
        return cls(mapping, report, cells.row, bad, zone, cells.columns)

    def __len__(self) -> int:
        return len(self.row)

    def has(self, name: str) -> bool:
        """Whether the mapping gives our column `name`."""
        return name in self.mapping.columns or name in self.mapping.constants

    def theirs(self, name: str) -> str:
        """What the file calls our column."""
        given = self.mapping.columns.get(name)
        return given or (f"constants.{name}" if name in self.mapping.constants else name)

    def wrong(
        self,
        kind: Kind,
        which: Fits,
        name: str,
        value: Sequence[str] | Callable[[int], str],
        expected: str | Callable[[int], str],
    ) -> None:
        """Rows of the mask are bad: their `value` in our column `name` should be `expected`."""
        for i in np.flatnonzero(which).tolist():
            shown = value(i) if callable(value) else value[i]
            right = expected(i) if callable(expected) else expected
            self.report.add(Finding(kind, int(self.row[i]), self.theirs(name), shown, right))
        self.bad |= which

    # --- columns out of text ---

    def texts(self, name: str, default: str = "") -> list[str]:
        """Our column as text: of the file, of the mapping, or all `default`."""
        theirs = self.mapping.columns.get(name)
        if theirs is not None:
            return self.cells[theirs]
        constant = self.mapping.constants.get(name, default)
        return [str(constant)] * len(self)

    def needed(self, name: str, default: str = "") -> list[str]:
        """Our column as text; rows with a hole there are bad."""
        texts = self.texts(name, default)
        self._holes(name, texts, self.all())
        return texts

    def all(self) -> Fits:
        return np.ones(len(self), np.bool_)

    def none(self) -> Fits:
        return np.zeros(len(self), np.bool_)

    def numbers(self, name: str, needed: Fits, default: str = "") -> F8:
        """Our column as numbers, NaN where there is none; a hole where one is needed is bad."""
        texts = self.texts(name, default)
        there = self._holes(name, texts, needed)
        found, fits = parse.numbers(texts)
        self.wrong(Kind.NOT_A_NUMBER, there & ~fits, name, texts, "a number")
        return np.where(fits, found, np.nan)

    def times(self, name: str, needed: Fits, nothing: int = 0) -> I8:
        """Our column as instants, ms UTC, `nothing` where there is none."""
        texts, how = self.texts(name), self.mapping.time
        there = self._holes(name, texts, needed)
        found, fits = parse.instants(texts, how, self._day_ms(), self.zone)
        expected = parse.expected(how, self.zone)
        self.wrong(Kind.NOT_A_TIME, there & ~fits, name, texts, expected)
        return np.where(fits, found, nothing)

    def past_midnight(self, name: str, at_ms: I8, since_ms: I8, nothing: int = 0) -> I8:
        """Times of the day more than half a day before what they follow are of the next day."""
        if self.mapping.time != "clock":
            return at_ms
        wraps = (since_ms - at_ms > HALF_DAY_MS) & (at_ms != nothing) & ~self.bad
        if wraps.any():
            self.report.mended[f"{self.theirs(name)} past midnight"] += int(wraps.sum())
        return np.where(wraps, at_ms + DAY_MS, at_ms)

    def shown_ms(self, at_ms: I8) -> Callable[[int], str]:
        """An instant of a row, for the report."""
        zone = self.zone or ZoneInfo("UTC")
        return lambda i: parse.local_text(int(at_ms[i]), zone)

    def _holes(self, name: str, texts: list[str], needed: Fits) -> Fits:
        """Where something stands."""
        there = np.array([bool(text) for text in texts], np.bool_)
        if not self.has(name) and bool((needed & ~there).any()):
            expected = f"a column for our {name}, or columns.{name} in a mapping"
            raise InvalidValue(f"{self.report.file} line 1", None, expected)
        self.wrong(Kind.HOLE, needed & ~there, name, texts, "a value")
        return there

    def _day_ms(self) -> int:
        if self.mapping.time != "clock":
            return 0
        assert self.mapping.date is not None
        day = day_of(self.mapping.date)
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000

    # --- what rows say of each other ---

    def once(self, name: str, texts: Sequence[str]) -> None:
        """A good row whose text stands in a good row before it is bad."""
        seen: dict[str, int] = {}
        again = np.zeros(len(self), np.bool_)
        for i, text in enumerate(texts):
            if not self.bad[i]:
                again[i] = seen.setdefault(text, i) != i

        def first(i: int) -> str:
            return f"an id that stands once, and row {self.row[seen[texts[i]]]} has it"

        if again.any():
            self.wrong(Kind.DUPLICATE_ID, again, name, texts, first)

    def once_at_a_time(self, name: str, texts: Sequence[str], on_ms: I8, off_ms: I8) -> None:
        """A good row whose text stands in a good row for the same time is bad: the later one."""
        last: dict[str, int] = {}
        again = np.full(len(self), -1, np.int64)
        for i in np.argsort(on_ms, kind="stable").tolist():
            if self.bad[i]:
                continue
            before = last.get(texts[i])
            if before is None or (off_ms[before] <= on_ms[i] and on_ms[before] < on_ms[i]):
                last[texts[i]] = i
            else:
                again[i] = before

        def first(i: int) -> str:
            return f"an id that stands once at a time, and row {self.row[again[i]]} has it"

        self.wrong(Kind.DUPLICATE_ID, again >= 0, name, texts, first)

    def rising(self, name: str, at_ms: I8) -> None:
        """Good rows that keep the column from rising are bad: as few of them as can be."""
        good = np.flatnonzero(~self.bad)
        out = np.zeros(len(self), np.bool_)
        out[good] = ~longest_rise(at_ms[good])
        expected = "not before the rows above nor after those below (or any_order: true)"
        self.wrong(Kind.OUT_OF_ORDER, out, name, self.shown_ms(at_ms), expected)


def joined(pieces: list[Rows]) -> Rows:
    """The pieces of a file as one, without their text; at least one."""
    first = pieces[0]
    row = np.concatenate([piece.row for piece in pieces])
    bad = np.concatenate([piece.bad for piece in pieces])
    return Rows(first.mapping, first.report, row, bad, first.zone)


Ends = Sequence[tuple[str, str, F8, F8]]
"""Of each end of an order: our lat column, our lon column, and their degrees."""


def check_places(rows: Rows, ends: Ends, zone: str) -> None:
    """Marks places that are no point, not in the city, or in it only with lat and lon swapped.

    Without an area in the mapping, the city is RADIUS_M around the middle of all good places that
    may lie in the zone.
    """
    area, doubt = _city(rows, ends, zone, None)
    for end in ends:
        off = _check_swapped(rows, end, area, doubt)
        rows.wrong(Kind.OUTSIDE, off, end[0], _shown(end), _asked(area))


def check_swapped(rows: Rows, end: tuple[str, str, F8, F8], zone: str, near: Area | None) -> None:
    """Marks places that are no point, and those that would be in the city (`near`, WGS-84) with lat
    and lon changed round and are not; another city is no finding. Without `near` as
    `check_places`."""
    off = _check_swapped(rows, end, *_city(rows, [end], zone, near))
    rows.wrong(
        Kind.OUT_OF_RANGE, off & ~_within(None, end[2], end[3]), end[0], _shown(end), _asked(None)
    )


def _check_swapped(rows: Rows, end: tuple[str, str, F8, F8], area: Area | None, doubt: str) -> Fits:
    """Gives what is not in the city either way."""
    lat_name, lon_name, lat, lon = end
    off = ~rows.bad & ~np.isnan(lat) & ~_within(area, lat, lon)
    swapped = off & _within(area, lon, lat)
    right = f"lat, lon: {rows.theirs(lon_name)} and {rows.theirs(lat_name)} are swapped{doubt}"
    rows.wrong(Kind.SWAPPED, swapped, lat_name, _shown(end), right)
    return off & ~swapped


def _shown(end: tuple[str, str, F8, F8]) -> Callable[[int], str]:
    _, _, lat, lon = end
    return lambda i: f"{lat[i]}, {lon[i]}"


def _city(rows: Rows, ends: Ends, zone: str, near: Area | None) -> tuple[Area | None, str]:
    """Where the city lies in the file's system, and what else than swapped places might explain
    that they do not lie there."""
    area = rows.mapping.city or near
    if area is not None:
        if rows.mapping.system is not System.WGS84:
            lat0, lon0 = from_wgs84(area.lat, area.lon, rows.mapping.system)
            area = Area(lat=lat0, lon=lon0, radius_m=area.radius_m)
        return area, ""
    lat = np.concatenate([end[2] for end in ends])
    lon = np.concatenate([end[3] for end in ends])
    point = _within(None, lat, lon) & ~np.tile(rows.bad, len(ends))  # a NaN is no point
    if not point.any():
        return None, ""
    lat, lon, doubt = lat[point], lon[point], ""
    turned = parse.far_from(zone, lon) & ~parse.far_from(zone, lat) & (np.abs(lon) <= 90.0)
    if turned.all():
        lat, lon, doubt = lon, lat, f" (or they are not in {zone})"
    elif turned.any():
        lat, lon = lat[~turned], lon[~turned]
    return Area(lat=float(np.median(lat)), lon=float(np.median(lon))), doubt


def _within(area: Area | None, lat: F8, lon: F8) -> Fits:
    """Which are points of the area; of the Earth, where nobody knows an area."""
    point: Fits = (np.abs(lat) <= 90.0) & (np.abs(lon) <= 180.0)
    if area is None:
        return point
    metres = haversine_m(area.lat, area.lon, np.where(point, lat, 0.0), np.where(point, lon, 0.0))
    return point & (np.asarray(metres) <= area.radius_m)


def _asked(area: Area | None) -> str:
    if area is None:
        return "degrees: lat from -90 to 90, lon from -180 to 180"
    return f"lat, lon within {area.radius_m / 1000:g} km of {area.lat:.4f}, {area.lon:.4f}"


def longest_rise(values: I8) -> Fits:
    """Which values make a longest subsequence that never falls (patience sorting; Fredman, 1975).

    All of them for values that never fall as they are.
    """
    if len(values) < 2 or bool(np.all(values[1:] >= values[:-1])):
        return np.ones(len(values), np.bool_)
    ends = np.empty(len(values), np.int64)  # the smallest last value of a run of each length
    last = np.empty(len(values), np.int64)  # and where it stands
    before = np.full(len(values), -1, np.int64)
    length = 0
    for i, value in enumerate(values.tolist()):
        at = int(np.searchsorted(ends[:length], value, side="right"))
        ends[at], last[at] = value, i
        before[i] = last[at - 1] if at else -1
        length = max(length, at + 1)
    out = np.zeros(len(values), np.bool_)
    i = int(last[length - 1])
    while i >= 0:
        out[i] = True
        i = int(before[i])
    return out


def check_before(rows: Rows, kind: Kind, name: str, at_ms: I8, other: str, since_ms: I8) -> None:
    before = (at_ms < since_ms) & ~rows.bad
    shown = rows.shown_ms(since_ms)
    column = rows.theirs(other) if rows.has(other) else other
    rows.wrong(
        kind, before, name, rows.shown_ms(at_ms), lambda i: f"not before {column}, {shown(i)}"
    )


def kept(rows: Rows, report: Report, bad: Bad, what: str) -> NDArray[np.intp]:
    """The rows that stay; raises BadLog when some would have to go and none may."""
    keep = np.flatnonzero(~rows.bad)
    report.kept = len(keep)
    report.bad_rows += len(rows) - len(keep)
    if not report.good and bad is Bad.STOP:
        raise BadLog(report)
    if not len(keep):
        raise InvalidValue(report.file, f"{report.rows} bad rows", f"at least one good {what}")
    return keep


def zones_of(rows: Rows) -> list[str]:
    """What each row has for its zone, unless the mapping has one for all."""
    if rows.mapping.zone is not None:
        return [rows.mapping.zone] * len(rows)
    return [intern(name) for name in rows.texts("zone")]


def one_zone(rows: Rows, zones: list[str]) -> str:
    """The zone of most rows; those with none or another one are bad. InvalidValue where no row has
    one, or most one that nobody knows."""
    known = Counter(zones)
    del known[""]
    if not known:
        expected = "a time zone for local hours: --zone, or zone in the mapping or the file"
        raise InvalidValue(f"{rows.report.file}: zone", None, expected)
    usual = known.most_common(1)[0][0]
    check_zone(usual, f"{rows.report.file}: zone")
    if len(known) == 1 and known[usual] == len(zones):
        return usual
    empty = np.array([not name for name in zones], np.bool_)
    other = np.array([name != usual for name in zones], np.bool_) & ~empty
    rows.wrong(Kind.HOLE, empty, "zone", zones, "a value")
    rows.wrong(Kind.ANOTHER_ZONE, other, "zone", zones, f"{usual}, the zone of most rows")
    return usual


def wgs84(rows: Rows, lat: F8, lon: F8) -> tuple[F8, F8]:
    """Places of the file's own system in WGS-84."""
    system = rows.mapping.system
    if system is System.WGS84:  # else a compiler starts, to change nothing
        return lat, lon
    return to_wgs84(lat, lon, system)
