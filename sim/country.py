"""Several cities in one file, each a scenario of its own; may import the reading of scenarios."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import yaml

from geo.errors import InvalidValue, MissingFile, UnknownKey, UnknownName
from sim.scenario import Scenario, load_scenario, parse_scenario, read_yaml, shipped, utf8_text
from sim.streams import stream

CITIES_MAX = 1_000
_SEEDS = 2**53
"""Seeds of cities lie below this: a JSON reader that knows doubles only keeps them whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """Cities whose scenarios have different names; nothing connects them."""

    name: str
    cities: tuple[Scenario, ...]

    def seed_of(self, city: Scenario, seed: int) -> int:
        """The seed of one city's run: named by the city, so that it depends on no other."""
        return int(stream(seed, "country", city.name).integers(_SEEDS))


def shipped_countries() -> tuple[str, ...]:
    """The names of the countries that come with hexrun."""
    return tuple(sorted(f.name[:-5] for f in _shelf().iterdir() if f.name.endswith(".yaml")))


def load(name_or_path: str | Path) -> Scenario | Country:
    """A shipped scenario or country by name, or one from a YAML file.

    Raises as `load_scenario`; what is wrong in a city is named by its place: `cities.2.orders`.
    """
    text = str(name_or_path)
    if text in shipped_countries():
        return _country(read_yaml((_shelf() / f"{text}.yaml").read_text(), text), Path())
    if text.endswith((".yaml", ".yml")) and Path(text).is_file():
        found = read_yaml(utf8_text(Path(text)), text)
        if isinstance(found, dict) and "cities" in found:
            return _country(found, Path(text).parent)
    if not text.endswith((".yaml", ".yml")) and text not in shipped():
        names = ", ".join((*shipped(), *shipped_countries()))
        raise UnknownName("scenario", text, f"one of {names}, or the path of a .yaml file")
    return load_scenario(name_or_path)


def _country(found: dict[str, Any], folder: Path) -> Country:
    for key in found:
        if key not in ("name", "cities"):
            raise UnknownKey(str(key), key, "one of name, cities")
    name, cities = found.get("name"), found["cities"]
    if not isinstance(name, str) or not name:
        raise InvalidValue("name", name, "a name")
    if not isinstance(cities, list) or not 1 <= len(cities) <= CITIES_MAX:
        raise InvalidValue("cities", cities, f"a list of 1 to {CITIES_MAX} cities")
    scenarios = tuple(_city(city, f"cities.{i}", folder) for i, city in enumerate(cities))
    twice = [name for name, times in Counter(s.name for s in scenarios).items() if times > 1]
    if twice:
        raise InvalidValue("cities", twice[0], "a name of its own for each city")
    return Country(name=name, cities=scenarios)


def _city(found: object, where: str, folder: Path) -> Scenario:
    """One entry: a scenario's name or file, or the keys that differ from those of `like`."""
    if isinstance(found, str):
        found = {"like": found}
    if not isinstance(found, dict):
        raise InvalidValue(where, found, "a scenario's name or file, or a mapping of its keys")
    own = dict(found)
    like = own.pop("like", None)
    try:
        whole = own if like is None else _over(_keys_of(like, folder), own)
        if isinstance(own.get("city"), dict) and "name" not in own:
            whole["name"] = whole["city"].get("name")
        return parse_scenario(yaml.safe_dump(whole), folder)
    except InvalidValue as wrong:
        raise type(wrong)(f"{where}.{wrong.field}", wrong.value, wrong.expected) from None


def _keys_of(like: object, folder: Path) -> dict[str, Any]:
    """The keys of a scenario as they are written."""
    file: Traversable
    if isinstance(like, str) and like.endswith((".yaml", ".yml")):
        file = folder / like
        if not file.is_file():
            raise MissingFile(str(file), "a city's scenario")
    elif isinstance(like, str) and like in shipped():
        file = files("sim") / "scenarios" / f"{like}.yaml"
    else:
        names = ", ".join(shipped())
        raise UnknownName("like", like, f"one of {names}, or the path of a .yaml file")
    found = read_yaml(
        utf8_text(file) if isinstance(file, Path) else file.read_text(encoding="utf-8"), "like"
    )
    if not isinstance(found, dict):
        raise InvalidValue("like", like, "the file of a scenario")
    return found


def _over(base: dict[str, Any], own: dict[Any, Any]) -> dict[str, Any]:
    """`base` with `own` over it: mappings key by key, everything else as a whole."""
    out = dict(base)
    for key, value in own.items():
        below = out.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = _over(below, value)
        out[key] = value
    return out


def _shelf() -> Traversable:
    return files("sim") / "scenarios" / "countries"
