"""What is compared: a policy on a scenario, or a whole scenario, by name or file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from geo.errors import InvalidValue, MissingFile
from sim.policies import policy_over
from sim.scenario import Scenario, load_scenario, read_yaml, utf8_text

BASE = "base"
"""The scenario with its own policy."""


@dataclass(frozen=True, slots=True)
class Arm:
    """One of the two sides, `name` as it was given."""

    name: str
    scenario: Scenario


def read_arm(name: str, on: Scenario | None) -> Arm:
    """The arm called `name`, on the scenario `on` unless it is a whole one.

    `base` is the scenario's own policy; a YAML file with a `city` is a whole scenario, any other
    one a policy over the scenario's own; every other name is that of a shipped scenario. Raises
    what `load_scenario` and `read_policy` raise, and InvalidValue for a policy without a scenario.
    """
    if name == BASE:
        return Arm(name, _needed(on, name))
    if not name.endswith((".yaml", ".yml")):
        return Arm(name, load_scenario(name))
    path = Path(name)
    if not path.is_file():
        raise MissingFile(name, "the comparison")
    found = read_yaml(utf8_text(path), name)
    if isinstance(found, dict) and "cities" in found:
        raise InvalidValue(name, "cities", "one city: a comparison is of one")
    if isinstance(found, dict) and "city" in found:
        return Arm(name, load_scenario(path))
    on = _needed(on, name)
    policy = policy_over(on.policy, {} if found is None else found, name, path.stem)
    return Arm(name, replace(on, policy=policy))


def _needed(on: Scenario | None, name: str) -> Scenario:
    if on is None:
        raise InvalidValue("scenario", None, f"--scenario: the one that {name} is tried on")
    return on
