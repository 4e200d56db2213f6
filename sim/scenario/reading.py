"""Scenarios from YAML, with the tables beside them; imports pydantic and yaml."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from pydantic import TypeAdapter, ValidationError

from dispatch.registry import job_type
from geo.errors import InvalidValue, MissingFile, UnknownKey, UnknownName
from sim.scenario.tables import TABLES, read_table
from sim.scenario.text import utf8_text
from sim.scenario.whole import Scenario


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
        return parse_scenario(utf8_text(path), path.parent)
    if text not in shipped():
        expected = f"one of {', '.join(shipped())}, or the path of a .yaml file"
        raise UnknownName("scenario", text, expected)
    file = files("sim") / "scenarios" / f"{text}.yaml"
    return parse_scenario(file.read_text(encoding="utf-8"))


def parse_scenario(text: str, folder: Path | None = None) -> Scenario:
    """The scenario written as YAML, its tables in `folder`; raises as `load_scenario`."""
    data = read_yaml(text, "scenario")
    if not isinstance(data, dict):
        raise InvalidValue("scenario", data, "a mapping of keys to values")
    _take_in_tables(data.get("demand"), folder)
    try:
        # By way of JSON, strictly: lists are then the tuples of the dataclasses, and neither "5"
        # nor 5.0 nor true is the number 5.
        scenario = _adapter().validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as e:
        raise first_wrong(e, Scenario) from None
    for name in scenario.jobs:
        job_type(name)
    return scenario


def _take_in_tables(demand: Any, folder: Path | None) -> None:
    """Puts the rows in place of each table that is named as a file."""
    for name in TABLES if isinstance(demand, dict) else ():
        file = demand.get(name)
        if isinstance(file, str):
            if folder is None:
                raise InvalidValue(f"demand.{name}", file, "rows: there is no folder to look in")
            demand[name] = read_table(name, folder / file)


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
