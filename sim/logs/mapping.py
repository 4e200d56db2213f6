"""How the columns of somebody's file are read into ours, from YAML; reads files.

Imports pydantic for the reading of the file, geo's coordinate systems, and the job types' names.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dispatch.registry import job_type
from geo.datum import System, check_lat_lon
from geo.errors import InvalidValue, MissingFile, UnknownKey
from sim.logs.table import check_zone
from sim.scenario import first_wrong, read_yaml, utf8_text

ORDER_COLUMNS = (
    "id",
    "placed",
    "job_type",
    "merchant",
    "pickup_lat",
    "pickup_lon",
    "door_lat",
    "door_lon",
    "ready",
    "ready_after_min",
    "promise",
    "promise_after_min",
    "load",
    "picked_up",
    "delivered",
    "zone",
)
COURIER_COLUMNS = ("id", "vehicle", "lat", "lon", "on", "off", "zone")
NEEDED = {ORDER_COLUMNS: ("id", "placed"), COURIER_COLUMNS: ("id", "lat", "lon", "on", "off")}
TIMES = ("iso", "epoch_ms", "epoch_s", "clock")
ALL = "*"
RADIUS_M = 50_000.0
"""What is farther than this from the middle of the pickups is in another city."""
_ON_OFF: dict[object, str] = {True: "on", False: "off"}
"""YAML reads these two column names as truth values."""
_FORBID = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """Where the city lies, WGS-84 degrees: what is farther away than `radius_m` is not in it."""

    __pydantic_config__ = _FORBID

    lat: float
    lon: float
    radius_m: float = RADIUS_M

    def __post_init__(self) -> None:
        check_lat_lon(self.lat, self.lon, "city")
        if self.radius_m <= 0:
            raise InvalidValue("city.radius_m", self.radius_m, "metres above 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapping:
    """What each of our columns is read from; see docs/fitting.md for every key.

    `columns` names their column for ours, `constants` gives one value for all rows. `time` is one
    of TIMES or a pattern of strptime; `clock` is a time of the day `date`. Times without an offset
    are local in `zone`. Without `city` its centre is the middle of the log's own places.
    """

    __pydantic_config__ = _FORBID

    columns: dict[str, str]
    constants: dict[str, str | int | float] = field(default_factory=dict)
    zone: str | None = None
    time: str = "iso"
    date: str | None = None
    system: System = System.WGS84
    city: Area | None = None
    ignore: tuple[str, ...] = ()
    any_order: bool = False
    encoding: str = "utf-8-sig"
    delimiter: str = ","

    def __post_init__(self) -> None:
        if self.zone is not None:
            check_zone(self.zone, "zone")
        if self.time not in TIMES and "%" not in self.time:
            raise InvalidValue("time", self.time, f"one of {', '.join(TIMES)}, or a pattern with %")
        if self.date is not None:
            day_of(self.date)
        if self.time == "clock" and self.date is None:
            raise InvalidValue("date", None, "the day of the times, as 2026-03-02")
        if len(self.delimiter) != 1:
            raise InvalidValue("delimiter", self.delimiter, "one character")
        both = sorted(self.columns.keys() & self.constants.keys())
        if both:
            raise InvalidValue("constants", both, "nothing that columns has, too")

    def checked(self, ours: tuple[str, ...]) -> Mapping:
        """The same. Raises UnknownKey for what is none of our columns, InvalidValue for a needed
        one that is not given."""
        for part in ("columns", "constants"):
            for name in getattr(self, part):
                if name not in ours:
                    raise UnknownKey(f"{part}.{name}", name, "one of " + ", ".join(ours))
        given = self.columns.keys() | self.constants.keys()
        for name in NEEDED[ours]:
            if name not in self.columns and (name == "id" or name not in given):
                raise InvalidValue(f"columns.{name}", None, "a column's name")
        for name in ("ready", "promise"):
            if name in given and f"{name}_after_min" in given:
                raise InvalidValue(f"columns.{name}", name, f"it or {name}_after_min, not both")
        if "job_type" in self.constants:
            job_type(str(self.constants["job_type"]))
        return self


def day_of(text: str) -> date:
    """The day; InvalidValue for what is none."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidValue("date", text, "a day as 2026-03-02") from None


ORDERS = Mapping(
    columns={
        "id": "id",
        "placed": "placed_ms",
        "job_type": "job_type",
        "merchant": "merchant",
        "pickup_lat": "pickup_lat",
        "pickup_lon": "pickup_lon",
        "door_lat": "door_lat",
        "door_lon": "door_lon",
        "ready": "ready_ms",
        "promise": "promise_ms",
        "load": "load",
        "zone": "zone",
    },
    time="epoch_ms",
)
"""Our own format, as `write_orders` writes it."""

COURIERS = Mapping(
    columns={
        "id": "id",
        "vehicle": "vehicle",
        "lat": "lat",
        "lon": "lon",
        "on": "on_ms",
        "off": "off_ms",
        "zone": "zone",
    },
    time="epoch_ms",
)
"""Our own format, as `write_couriers` writes it."""

# The files have times of the day only; any Monday serves.
RAPPI_DATE = "2018-01-01"
RAPPI_ORDERS = Mapping(
    columns={
        "id": "order_id",
        "placed": "placement_time",
        "pickup_lat": "pick_up_lat",
        "pickup_lon": "pick_up_lng",
        "door_lat": "drop_off_lat",
        "door_lon": "drop_off_lng",
        "ready": "ready_time",
        "promise": "expected_drop_off_time",
    },
    ignore=("preparation_time",),
    zone="America/Bogota",
    time="clock",
    date=RAPPI_DATE,
)
RAPPI_COURIERS = Mapping(
    columns={
        "id": "courier_id",
        "vehicle": "vehicle",
        "lat": "on_lat",
        "lon": "on_lng",
        "on": "on_time",
        "off": "off_time",
    },
    zone="America/Bogota",
    time="clock",
    date=RAPPI_DATE,
)
SHIPPED = {ORDER_COLUMNS: (ORDERS, RAPPI_ORDERS), COURIER_COLUMNS: (COURIERS, RAPPI_COURIERS)}


def load_mapping(path: Path) -> Mapping:
    """Raises MissingFile, UnknownKey, or InvalidValue, naming the path of what is wrong."""
    if not path.is_file():
        raise MissingFile(str(path), "the mapping")
    return parse_mapping(utf8_text(path))


def parse_mapping(text: str) -> Mapping:
    """The mapping written as YAML; raises as `load_mapping`."""
    try:
        data = read_yaml(text, "mapping")
    except ValueError as error:  # a date of YAML that is none
        raise InvalidValue("mapping", str(error), "YAML") from None
    if not isinstance(data, dict):
        raise InvalidValue("mapping", data, "a mapping of keys to values")
    for part in ("columns", "constants"):
        if isinstance(data.get(part), dict):
            data[part] = {_ON_OFF.get(key, key): value for key, value in data[part].items()}
    if isinstance(data.get("ignore"), str):
        data["ignore"] = [data["ignore"]]
    try:
        # By way of JSON, strictly, as scenarios are read; YAML makes a date of a date.
        return _adapter().validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as e:
        raise first_wrong(e, Mapping) from None


@cache
def _adapter() -> TypeAdapter[Mapping]:
    return TypeAdapter(Mapping)


def chosen(
    names: list[str],
    ours: tuple[str, ...],
    mapping: Mapping | None,
    *,
    zone: str | None = None,
    day: str | None = None,
) -> Mapping:
    """The mapping for a file with columns `names`: the given one, or the shipped one that fits.

    Our own columns that need not be there are left out where they are not. `zone` and `day` stand
    for those of the mapping.
    """
    if mapping is None:
        mapping = next(
            (m for m in SHIPPED[ours] if all(m.columns[n] in names for n in NEEDED[ours])),
            SHIPPED[ours][0],
        )
        kept = {
            name: theirs
            for name, theirs in mapping.columns.items()
            if theirs in names or name in NEEDED[ours]
        }
        mapping = dataclasses.replace(mapping, columns=kept)
    if zone is not None:
        mapping = dataclasses.replace(mapping, zone=zone)
    if day is not None:
        mapping = dataclasses.replace(mapping, date=day)
    return mapping.checked(ours)
