"""`hexrun sim scenarios`: what comes with hexrun, and how large it is."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from api.cli.output import say, say_table
from sim.country import Country, load, shipped_countries
from sim.report import to_json_line
from sim.scenario import shipped


def list_scenarios(as_json: bool) -> None:
    """Every shipped scenario and country: name, cities, orders, riders, hours, job types."""
    found = [_size(name) for name in (*shipped(), *shipped_countries())]
    if as_json:
        say(to_json_line({"scenarios": found}))
        return
    out = Table()
    for name in found[0]:
        out.add_column(name, justify="left" if name in ("scenario", "jobs") else "right")
    for one in found:
        out.add_row(*(_shown(value) for value in one.values()))
    say_table(out)


def _size(name: str) -> dict[str, Any]:
    scenario = load(name)
    cities = scenario.cities if isinstance(scenario, Country) else (scenario,)
    return {
        "scenario": name,
        "cities": len(cities),
        "orders": sum(city.orders.count for city in cities),
        "riders": sum(city.riders.count for city in cities),
        "hours": max(city.duration_s for city in cities) / 3600,
        "jobs": sorted({job for city in cities for job in city.jobs}),
    }


def _shown(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(value)
    return (
        f"{value:,g}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )
