"""A day of the benchmark from its four tab-separated files, checked once; an edge of `sim`.

Places are metres in a plane of the files' own, times whole minutes from midnight, pay is in the
currency of the files. Source: Reyes, Erera, Savelsbergh, Sahasrabudhe, O'Neil, "The Meal Delivery
Routing Problem", 2018.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from geo.errors import InvalidValue, MissingFile

ON_LOCATION = "0"  # what the solution files call the place where a courier starts
MINUTE_MAX = 7 * 1440
METRES_MAX = 1_000_000.0

_ORDERS = ("order", "x", "y", "placement_time", "restaurant", "ready_time")
_RESTAURANTS = ("restaurant", "x", "y")
_COURIERS = ("courier", "x", "y", "on_time", "off_time")
_PARAMETERS = (
    "meters_per_minute",
    "pickup service minutes",
    "dropoff service minutes",
    "target click-to-door",
    "pay per order",
    "guaranteed pay per hour",
)

_WHOLE = re.compile(r"-?[0-9]{1,9}")
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place by its id, in metres: a restaurant."""

    id: str
    x: float
    y: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MdrpOrder(Spot):
    """(x, y) is the customer's door. Known from `placed_min` on, with its `ready_min`."""

    restaurant: str
    placed_min: int
    ready_min: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MdrpCourier(Spot):
    """(x, y) is where he is at `on_min`; he picks up nothing after `off_min`."""

    on_min: int
    off_min: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One day. Service times and the click-to-door target are minutes, `pay_hour` is the
    guarantee an hour of duty."""

    name: str
    orders: tuple[MdrpOrder, ...]
    restaurants: Mapping[str, Spot]
    couriers: tuple[MdrpCourier, ...]
    metres_per_min: float
    pickup_min: int
    dropoff_min: int
    target_min: int
    pay_order: float
    pay_hour: float


def read_instance(folder: Path) -> Instance:
    """The day in `folder`, in the order of its files.

    Raises MissingFile, or InvalidValue naming file, line, column and value.
    """
    path = folder / "instance_parameters.txt"
    first, *more = _rows(path, _PARAMETERS)
    if more:
        raise InvalidValue(str(path), 1 + len(more), "one row")
    used: set[str] = {ON_LOCATION}
    orders = _rows(folder / "orders.txt", _ORDERS, least=0)
    spots = [_spot(row, used) for row in _rows(folder / "restaurants.txt", _RESTAURANTS)]
    couriers = _rows(folder / "couriers.txt", _COURIERS)
    restaurants = {spot.id: spot for spot in spots}
    return Instance(
        name=folder.resolve().name,
        orders=tuple(_order(row, used, restaurants) for row in orders),
        restaurants=restaurants,
        couriers=tuple(_courier(row, used) for row in couriers),
        metres_per_min=first.number("meters_per_minute", 1e-3, 1e6),
        pickup_min=first.minute("pickup service minutes"),
        dropoff_min=first.minute("dropoff service minutes"),
        target_min=first.minute("target click-to-door"),
        pay_order=first.number("pay per order", 0.0, 1e6),
        pay_hour=first.number("guaranteed pay per hour", 0.0, 1e6),
    )


def _spot(row: _Row, used: set[str]) -> Spot:
    return Spot(id=row.key("restaurant", used), x=row.metres("x"), y=row.metres("y"))


def _order(row: _Row, used: set[str], restaurants: Mapping[str, Spot]) -> MdrpOrder:
    restaurant = row.text("restaurant")
    if restaurant not in restaurants:
        raise row.wrong("restaurant", "one of restaurants.txt")
    placed = row.minute("placement_time")
    return MdrpOrder(
        id=row.key("order", used),
        x=row.metres("x"),
        y=row.metres("y"),
        restaurant=restaurant,
        placed_min=placed,
        ready_min=row.minute("ready_time", placed, "placement_time"),
    )


def _courier(row: _Row, used: set[str]) -> MdrpCourier:
    on = row.minute("on_time")
    return MdrpCourier(
        id=row.key("courier", used),
        x=row.metres("x"),
        y=row.metres("y"),
        on_min=on,
        off_min=row.minute("off_time", on + 1, "on_time + 1"),
    )


def _rows(path: Path, needed: tuple[str, ...], least: int = 1) -> list[_Row]:
    """The rows of a file that has the `needed` columns and at least `least` rows."""
    if not path.is_file():
        raise MissingFile(str(path), "a day of the Meal Delivery Routing Problem")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise InvalidValue(str(path), error.reason, "UTF-8 text") from None
    columns = lines[0].split("\t") if lines else []
    for name in needed:
        if columns.count(name) != 1:
            raise InvalidValue(f"{path} line 1", columns, f"one column {name!r}")
    rows = []
    for number, line in enumerate(lines[1:], 2):
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) != len(columns):
            where = f"{path} line {number}"
            raise InvalidValue(where, line, f"{len(columns)} cells, one a column")
        rows.append(_Row(path, number, dict(zip(columns, cells, strict=True))))
    if len(rows) < least:
        raise InvalidValue(str(path), len(rows), f"at least {least} row")
    return rows


@dataclass(frozen=True, slots=True)
class _Row:
    """A line of a file by column name; every getter raises InvalidValue naming the cell."""

    path: Path
    line: int
    cells: Mapping[str, str]

    def wrong(self, column: str, expected: str) -> InvalidValue:
        where = f"{self.path} line {self.line} column {column}"
        return InvalidValue(where, self.cells[column], expected)

    def text(self, column: str) -> str:
        return self.cells[column].strip()

    def key(self, column: str, used: set[str]) -> str:
        """An id that can stand in a space-separated file and was not used before."""
        text = self.text(column)
        if len(text.split()) != 1:
            raise self.wrong(column, "an id without spaces")
        if text in used:
            raise self.wrong(column, f"an id that stands nowhere else and is not {ON_LOCATION}")
        used.add(text)
        return text

    def minute(self, column: str, least: int = 0, name: str = "0") -> int:
        text = self.text(column)
        if not _WHOLE.fullmatch(text) or not least <= int(text) <= MINUTE_MAX:
            raise self.wrong(column, f"whole minutes from {name} ({least}) to {MINUTE_MAX}")
        return int(text)

    def number(self, column: str, least: float, most: float) -> float:
        text = self.text(column)
        if not _NUMBER.fullmatch(text) or not least <= float(text) <= most:
            raise self.wrong(column, f"a number from {least:g} to {most:g}")
        return float(text)

    def metres(self, column: str) -> float:
        return self.number(column, -METRES_MAX, METRES_MAX)
