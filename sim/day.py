"""What a run simulates: the orders and the riders of a day, drawn or real; imports both.

A day is fixed before anything is decided, so that one day can be run again with other knobs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sim.city import I8, build_city
from sim.crew import Member, draw_crew
from sim.demand import OrderRequest, draw_demand
from sim.scenario import Scenario


class Requests(Protocol):
    """Order requests by time: `Demand`, or those of a recording."""

    @property
    def at_ms(self) -> I8: ...

    def __len__(self) -> int: ...

    def request(self, i: int) -> OrderRequest: ...

    def tips(self) -> dict[str, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Day:
    """Who asks for what (`demand`, by time) and who rides (`crew`, one row a rider), in the
    scenario's city from its `start_ms` on."""

    scenario: Scenario
    demand: Requests
    crew: tuple[Member, ...]


def draw_day(scenario: Scenario, seed: int) -> Day:
    """The same day for the same scenario and seed."""
    city = build_city(scenario, seed)
    return Day(
        scenario=scenario,
        demand=draw_demand(scenario, city, seed),
        crew=draw_crew(scenario, city, seed),
    )
