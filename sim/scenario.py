"""A scenario: everything that a simulated city is made of, valid once built; read from YAML.

Imports pydantic and yaml for the reading. Instants are ms UTC, durations name their unit, times
named `_h` are hours after the start, shares lie between 0 and 1.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from dispatch.policy import Policy
from dispatch.registry import job_type
from geo.distance import Plane
from geo.errors import InvalidValue, MissingFile, UnknownKey, UnknownName
from geo.travel import TravelModel, travel_model
from sim.faults import FaultKnobs

HOUR_MS = 3_600_000
SPEED_LIMIT_MPS = 25 / 3.6
"""The legal limit of an electric scooter in China, 25 km/h (GB 17761)."""
_FORBID = ConfigDict(extra="forbid", allow_inf_nan=False)


def _need(true: bool, path: str, value: object, expected: str) -> None:
    if not true:
        raise InvalidValue(path, value, expected)


def _need_share(path: str, value: float) -> None:
    _need(0.0 <= value <= 1.0, path, value, "a share from 0 to 1")


def _need_over_zero(owner: object, path: str, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _need(0 < value < math.inf, f"{path}.{name}", value, "a number above 0")


def _need_zero_or_more(owner: object, path: str, *names: str) -> None:
    for name in names:
        value = getattr(owner, name)
        _need(0 <= value < math.inf, f"{path}.{name}", value, "zero or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class CityKnobs:
    """A round town of `radius_m` about (lat, lon), its merchants thick around `hot_spots` cells.

    `hot_spot_m` is how far merchants spread around a hot spot's centre (standard deviation).
    `door_m` is the median beeline from a merchant to a door, never beyond `door_max_m`.
    """

    __pydantic_config__ = _FORBID

    name: str
    lat: float
    lon: float
    radius_m: float
    hot_spots: int
    hot_spot_m: float = 350.0
    door_m: float = 1_500.0
    door_max_m: float = 5_000.0

    def __post_init__(self) -> None:
        _need(bool(self.name), "city.name", self.name, "a name")
        _need(-85.0 <= self.lat <= 85.0, "city.lat", self.lat, "degrees from -85 to 85")
        _need(-180.0 <= self.lon <= 180.0, "city.lon", self.lon, "degrees from -180 to 180")
        _need_over_zero(self, "city", "radius_m", "hot_spots", "hot_spot_m", "door_m", "door_max_m")
        _need(self.radius_m <= 50_000, "city.radius_m", self.radius_m, "at most 50000 m")
        _need(self.door_m <= self.door_max_m, "city.door_m", self.door_m, "at most city.door_max_m")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """A bell of demand: its centre, its standard deviation, its share of all orders."""

    __pydantic_config__ = _FORBID

    at_h: float
    width_h: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKnobs:
    """`count` orders: each peak's share around its hour, the rest evenly over the duration."""

    __pydantic_config__ = _FORBID

    count: int
    peaks: tuple[Peak, ...] = ()
    items_max: int = 2

    def __post_init__(self) -> None:
        _need(1 <= self.count <= 5_000_000, "orders.count", self.count, "1 to 5000000")
        _need(1 <= self.items_max <= 10, "orders.items_max", self.items_max, "1 to 10")
        for i, peak in enumerate(self.peaks):
            path = f"orders.peaks.{i}"
            _need_over_zero(peak, path, "width_h")
            _need_share(f"{path}.share", peak.share)
        total = sum(peak.share for peak in self.peaks)
        _need(total <= 1.0 + 1e-9, "orders.peaks", total, "shares that sum to 1 at most")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """`share` of the riders start within `spread_h` after `start_h` and work `hours`."""

    __pydantic_config__ = _FORBID

    start_h: float
    hours: float
    share: float = 1.0
    spread_h: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RiderKnobs:
    """Who rides, when, how fast, and how he answers.

    Of the offers a rider accepts `accept_share`, ignores `ignore_share` (they time out) and
    declines the rest; an answer takes `answer_s` on average. The service that an order plans for a
    stop takes `service_factor` times as long in fact, give or take the share `service_spread`.
    Riders begin their shifts about `start_m` from a merchant. Speeds spread by the share
    `speed_spread` and never pass 25 km/h.
    """

    __pydantic_config__ = _FORBID

    count: int
    shifts: tuple[Shift, ...]
    speed_mps: float = 6.0
    speed_spread: float = 0.1
    capacity: int = 8
    accept_share: float = 0.93
    ignore_share: float = 0.02
    answer_s: float = 5.0
    fix_s: float = 5.0
    service_factor: float = 1.0
    service_spread: float = 0.2
    start_m: float = 400.0

    def __post_init__(self) -> None:
        _need(1 <= self.count <= 1_000_000, "riders.count", self.count, "1 to 1000000")
        _need(1 <= self.capacity <= 100, "riders.capacity", self.capacity, "1 to 100 items")
        _need_over_zero(self, "riders", "speed_mps", "answer_s", "fix_s")
        _need_zero_or_more(self, "riders", "service_factor", "start_m")
        limit = SPEED_LIMIT_MPS
        _need(self.speed_mps <= limit, "riders.speed_mps", self.speed_mps, f"at most {limit:.2f}")
        for name in ("accept_share", "ignore_share", "speed_spread", "service_spread"):
            _need_share(f"riders.{name}", getattr(self, name))
        both = self.accept_share + self.ignore_share
        _need(both <= 1.0 + 1e-9, "riders.accept_share", both, "at most 1 with ignore_share")
        _need(bool(self.shifts), "riders.shifts", self.shifts, "at least one shift")
        for i, shift in enumerate(self.shifts):
            _need_over_zero(shift, f"riders.shifts.{i}", "hours", "share")
            _need_zero_or_more(shift, f"riders.shifts.{i}", "start_h", "spread_h")


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantKnobs:
    """`prep_s` is the mean preparation time, spread by the share `prep_spread`.

    A share `late_share` of orders is ready later than told, by `late_s` on average.
    """

    __pydantic_config__ = _FORBID

    count: int
    prep_s: float = 480.0
    prep_spread: float = 0.4
    late_share: float = 0.2
    late_s: float = 180.0

    def __post_init__(self) -> None:
        _need(1 <= self.count <= 1_000_000, "merchants.count", self.count, "1 to 1000000")
        _need_zero_or_more(self, "merchants", "prep_s", "prep_spread", "late_s")
        _need_share("merchants.late_share", self.late_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomerKnobs:
    """A share `cancel_share` cancels what is not picked up after `patience_s` on average."""

    __pydantic_config__ = _FORBID

    cancel_share: float = 0.02
    patience_s: float = 1_200.0

    def __post_init__(self) -> None:
        _need_share("customers.cancel_share", self.cancel_share)
        _need_over_zero(self, "customers", "patience_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class TravelKnobs:
    """The travel model by name; what is left out takes the model's own default."""

    __pydantic_config__ = _FORBID

    model: str = "straight_line"
    detour: float | None = None
    quantum_ms: int | None = None

    def __post_init__(self) -> None:
        self.build()

    def build(self) -> TravelModel:
        """Raises UnknownName for a model that there is not, UnknownKey for a knob it has not."""
        knobs = {"detour": self.detour, "quantum_ms": self.quantum_ms}
        given = {name: value for name, value in knobs.items() if value is not None}
        try:
            return travel_model(self.model, **given)
        except UnknownName as e:
            if e.field == "travel_model":
                raise UnknownName("travel.model", e.value, e.expected) from None
            raise UnknownKey(f"travel.{e.value}", e.value, e.expected) from None
        except InvalidValue as e:
            raise InvalidValue(f"travel.{e.field}", e.value, e.expected) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A simulated city from `start_ms` on: orders come for `duration_s`, then it runs dry.

    The run ends when every order has ended, `horizon_s` after the start at the latest. `jobs` is
    the share of orders by job type. A round has its plan `decide_ms` after its snapshot, and the
    plan stands in the store `write_ms` later; what moved meanwhile is dropped.
    """

    __pydantic_config__ = _FORBID

    name: str
    city: CityKnobs
    start_ms: int
    duration_s: int
    horizon_s: int
    orders: OrderKnobs
    riders: RiderKnobs
    merchants: MerchantKnobs
    jobs: Mapping[str, float]
    customers: CustomerKnobs = field(default_factory=CustomerKnobs)
    travel: TravelKnobs = field(default_factory=TravelKnobs)
    policy: Policy = field(default_factory=Policy)
    faults: FaultKnobs = field(default_factory=FaultKnobs)
    decide_ms: int = 150
    write_ms: int = 50

    def __post_init__(self) -> None:
        _need(bool(self.name), "name", self.name, "a name")
        _need(self.start_ms > 0, "start_ms", self.start_ms, "ms UTC, above 0")
        _need(1 <= self.duration_s <= 7 * 86_400, "duration_s", self.duration_s, "1 to 604800")
        horizon = f"duration_s ({self.duration_s}) or more"
        _need(self.horizon_s >= self.duration_s, "horizon_s", self.horizon_s, horizon)
        for name in ("decide_ms", "write_ms"):
            value = getattr(self, name)
            _need(0 <= value <= 60_000, name, value, "0 to 60000")
        _need(bool(self.jobs), "jobs", self.jobs, "at least one job type")
        for name, share in self.jobs.items():
            _need(0 < share <= 1, f"jobs.{name}", share, "a share above 0, at most 1")

    @property
    def plane(self) -> Plane:
        """The city's plane, in which every simulated actor moves."""
        return Plane(self.city.lat, self.city.lon)


def shipped() -> tuple[str, ...]:
    """The names of the scenarios that come with hexrun."""
    folder = files("sim") / "scenarios"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml")))


def load_scenario(name_or_path: str | Path) -> Scenario:
    """A shipped scenario by name, or one from a `.yaml` or `.yml` file.

    Raises UnknownName for a name that is not shipped, MissingFile, UnknownKey for a key that
    nothing reads, and InvalidValue, naming the path, for a wrong value.
    """
    text = str(name_or_path)
    if text.endswith((".yaml", ".yml")):
        path = Path(text)
        if not path.is_file():
            raise MissingFile(text, "the scenario")
        return parse_scenario(path.read_text(encoding="utf-8"))
    if text not in shipped():
        expected = f"one of {', '.join(shipped())}, or the path of a .yaml file"
        raise UnknownName("scenario", text, expected)
    file = files("sim") / "scenarios" / f"{text}.yaml"
    return parse_scenario(file.read_text(encoding="utf-8"))


def parse_scenario(text: str) -> Scenario:
    """The scenario written as YAML; raises as `load_scenario`."""
    data = read_yaml(text, "scenario")
    if not isinstance(data, dict):
        raise InvalidValue("scenario", data, "a mapping of keys to values")
    try:
        # By way of JSON, strictly: lists are then the tuples of the dataclasses, and neither "5"
        # nor 5.0 nor true is the number 5.
        scenario = _adapter().validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as e:
        raise first_wrong(e, Scenario) from None
    for name in scenario.jobs:
        job_type(name)
    return scenario


@cache
def _adapter() -> TypeAdapter[Scenario]:
    return TypeAdapter(Scenario)


class _OnceLoader(yaml.SafeLoader):
    """YAML's own loader takes the last of two equal keys; this one refuses them."""


def _mapping(loader: _OnceLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):
            continue
        if key.value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key.value} for a second time", key.start_mark
            )
        seen.add(key.value)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_MERGE = "tag:yaml.org,2002:merge"
_OnceLoader.add_constructor("tag:yaml.org,2002:map", _mapping)


def read_yaml(text: str, name: str) -> Any:
    """As `yaml.safe_load`, but a key that stands twice is refused.

    Raises InvalidValue, naming the text by `name`, and the line.
    """
    try:
        return yaml.load(text, _OnceLoader)  # a SafeLoader
    except yaml.MarkedYAMLError as e:
        where = f", line {e.problem_mark.line + 1}" if e.problem_mark else ""
        raise InvalidValue(f"{name}{where}", e.problem, "YAML") from None
    except yaml.YAMLError as e:
        raise InvalidValue(name, str(e), "YAML") from None


def first_wrong(error: ValidationError, whole: type) -> InvalidValue:
    """The first of pydantic's errors in our own tree; an unknown key goes before a missing one."""
    found = error.errors()
    one = next((e for e in found if e["type"] == "unexpected_keyword_argument"), found[0])
    loc = [str(part) for part in one["loc"]]
    path = ".".join(loc)
    if one["type"] == "unexpected_keyword_argument":
        return UnknownKey(path, loc[-1], "one of " + ", ".join(_keys(whole, loc[:-1])))
    if one["type"] == "missing":
        return InvalidValue(path, None, "a value: the key is required")
    return InvalidValue(path, one["input"], one["msg"].removeprefix("Input should be "))


def _keys(whole: type, path: Sequence[str]) -> list[str]:
    """The keys of the dataclass at `path` in `whole`."""
    found: Any = whole
    for name in path:
        if is_dataclass(found):
            assert isinstance(found, type)
            found = get_type_hints(found)[name]
        else:  # an index into a tuple
            found = get_args(found)[0]
    return [f.name for f in fields(found)]
