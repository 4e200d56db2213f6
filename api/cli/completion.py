"""What the shell offers at Tab; reads names of files only, since it runs at every key."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

BASE = "base"
"""How `compare` calls the scenario's own policy."""
KPIS = (
    "on_time_share",
    "click_to_door_mean_min",
    "click_to_door_p50_min",
    "click_to_door_p95_min",
    "match_mean_min",
    "to_pickup_mean_min",
    "wait_pickup_mean_min",
    "to_door_mean_min",
    "lateness_mean_min",
    "lateness_p95_min",
    "bundled_share",
    "orders_delivered",
    "orders_expired",
    "orders_per_online_h",
    "utilisation",
    "km_per_order",
    "empty_km_share",
    "income_per_online_h_yuan",
    "income_gini",
)
"""The figures that are asked for most; `compare` takes any."""
_YAML = (".yaml", ".yml")


def scenarios(incomplete: str) -> list[str]:
    """Shipped scenarios and countries, and YAML files."""
    return sorted(name for name in _shipped() if name.startswith(incomplete)) + yaml_files(
        incomplete
    )


def arms(incomplete: str) -> list[str]:
    """What can be compared: the scenario's own policy, policy files, whole scenarios."""
    return [BASE] * BASE.startswith(incomplete) + scenarios(incomplete)


def kpis(incomplete: str) -> list[str]:
    return [name for name in KPIS if name.startswith(incomplete)]


def roles(incomplete: str) -> list[str]:
    names = ("bots", "dispatcher", "gateway", "http", "migrate", "sequencer", "webhooks")
    return [name for name in names if name.startswith(incomplete)]


def yaml_files(incomplete: str) -> list[str]:
    """YAML files that begin so, as they were typed; none leaves the shell to look for files."""
    head, slash, tail = incomplete.rpartition("/")
    try:
        entries = [entry.name for entry in Path(head + slash or ".").iterdir()]
    except OSError:
        return []
    found = (name for name in entries if name.startswith(tail) and name.endswith(_YAML))
    return sorted(head + slash + name for name in found)


def _shipped() -> Iterator[str]:
    shelf = files("sim") / "scenarios"
    for folder in (shelf, shelf / "countries"):
        for file in folder.iterdir():
            if file.name.endswith(".yaml"):
                yield file.name.removesuffix(".yaml")
