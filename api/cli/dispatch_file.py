"""`dispatch.yaml` of the data folder: how its cities are dispatched.

What only some readers need is imported where it is used: an HTTP process starts without it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from api.settings import CityArea
from dispatch.policy import Policy

if TYPE_CHECKING:
    from api.dispatching import City

DISPATCH_NAME = "dispatch.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Travel:
    """The travel model of the city, see `geo.travel.travel_model`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    model: str = "straight_line"
    detour: float = 1.3


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a city is dispatched."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    policy: Policy = field(default_factory=Policy)
    travel: Travel = field(default_factory=Travel)


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchFile(How):
    """`dispatch.yaml` of the data folder: how its cities are dispatched.

    `cities` holds by name what is different there, filled up from the rest of the file.
    """

    cities: dict[str, How] = field(default_factory=dict)

    def of(self, city: str) -> How:
        """How the city is dispatched."""
        return self.cities.get(city, self)

    def city(self, area: CityArea) -> City:
        """The area as the file would have it dispatched."""
        from api.dispatching import City
        from api.journal import CityShape

        how = self.of(area.name)
        travel = how.travel.model, how.travel.detour
        shape = CityShape(
            name=area.name, lat=area.lat, lon=area.lon, travel=travel[0], detour=travel[1]
        )
        return City(shape, how.policy)


def read_dispatch_file(data: Path) -> DispatchFile:
    """The file of the folder, or all defaults where there is none.

    Raises InvalidValue naming a key that nothing reads or a wrong value.
    """
    path = data / DISPATCH_NAME
    if not path.is_file():
        return DispatchFile()
    from sim.scenario import first_wrong, read_yaml

    try:
        found = _filled_up(read_yaml(path.read_text(), str(path)))
        return TypeAdapter(DispatchFile).validate_python(found)
    except ValidationError as error:
        wrong = first_wrong(error, DispatchFile)
        field = f"{path}: {wrong.field}" if wrong.field else str(path)
        raise type(wrong)(field, wrong.value, wrong.expected) from None


def _filled_up(found: Any) -> Any:
    """What is said of one city stands beside what is said of all."""
    if found is None:
        return {}
    if not (isinstance(found, dict) and isinstance(found.get("cities"), dict)):
        return found
    common = {name: found[name] for name in ("policy", "travel") if name in found}
    cities = {name: _merged(common, city) for name, city in found["cities"].items()}
    return found | {"cities": cities}


def _merged(common: Any, own: Any) -> Any:
    if not (isinstance(common, dict) and isinstance(own, dict)):
        return own
    return common | {k: _merged(common.get(k), v) for k, v in own.items()}
