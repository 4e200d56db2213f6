"""`hexrun sim run` and `mdrp`: with a progress bar, and a table or JSON at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from api.cli.interrupt import INTERRUPTED, stoppable
from api.cli.output import say_table, show
from api.cli.progress import bar, simulated
from api.cli.workers import Job, Workers
from api.clock import monotonic_s
from geo.errors import InvalidValue
from sim.arrivals import orders_expected
from sim.commands import run_scenario as run_one
from sim.country import Country, load
from sim.merge import country_figures
from sim.policies import read_policy
from sim.report import figures, rows
from sim.run import Progress
from sim.scenario import Scenario

IN_TABLE = ("city", "orders_created", "orders_delivered", "on_time_share", "click_to_door_mean_min")


def run(name: str, seed: int, policy: Path | None, workers: int, as_json: bool) -> int:
    """Runs a scenario, or all cities of a country, and prints the KPIs with the run's own figures.

    The exit code: 0, or 130 for a run that Ctrl-C has ended.
    """
    found = load(name)
    if isinstance(found, Country):
        cities = tuple(_under(city, policy) for city in found.cities)
        return _run_country(replace(found, cities=cities), seed, workers, as_json)
    if workers > 1:
        raise InvalidValue("workers", workers, f"1: {found.name} is one city, in one process")
    return _run_city(_under(found, policy), seed, as_json)


def _under(scenario: Scenario, policy: Path | None) -> Scenario:
    if policy is None:
        return scenario
    return replace(scenario, policy=read_policy(policy, scenario.policy))


def _run_city(scenario: Scenario, seed: int, as_json: bool) -> int:
    title = f"{scenario.name}, seed {seed}"
    with bar(title, orders_expected(scenario)) as (progress, task), stoppable() as stop:

        def told(now: Progress) -> None:
            at = simulated(now.at_ms - scenario.start_ms)
            progress.update(task, completed=now.ended, total=now.orders, at=at)

        result = run_one(scenario, seed, stopwatch=monotonic_s, progress=told, stop=stop)
    show(title, figures(result), as_json)
    return INTERRUPTED if result.interrupted else 0


def _run_country(country: Country, seed: int, workers: int, as_json: bool) -> int:
    title = f"{country.name}, seed {seed}"
    cities = country.cities
    jobs = [Job(city.name, city, country.seed_of(city, seed)) for city in cities]
    count = min(workers, len(jobs))
    began_s = monotonic_s()
    with (
        bar(title, sum(map(orders_expected, cities))) as (progress, task),
        stoppable() as stop,
        Workers(count, len(jobs), stop) as pool,
    ):

        def told(ended: int, done: int) -> None:
            at = f"{done} of {len(jobs)} cities"
            progress.update(task, completed=ended, at=at)

        begun = [result for result in pool.run(jobs, told) if result is not None]
    if not begun:
        nothing = {"scenario": country.name, "seed": seed, "interrupted": True}
        show(title, nothing | {"cities_not_begun": len(jobs)}, as_json)
        return INTERRUPTED
    shown = country_figures(
        country.name,
        seed,
        begun,
        total_s=monotonic_s() - began_s,
        peak_rss_mib=pool.peak_mib,
    )
    left_out = len(jobs) - len(begun)
    if left_out:
        shown |= {"interrupted": True, "cities_not_begun": left_out}
    if not as_json:
        say_table(rows("cities", shown.pop("cities"), IN_TABLE))
    show(title, shown, as_json)
    return INTERRUPTED if "interrupted" in shown else 0


def run_mdrp(folder: Path, out: Path | None, as_json: bool) -> None:
    """Runs one benchmark day, prints its metrics and writes its solution files."""
    from sim.mdrp.run import run_day, write_solution

    orders = folder / "orders.txt"
    total = sum(1 for _ in orders.open("rb")) - 1 if orders.is_file() else None
    with bar(folder.name, total) as (progress, task):

        def told(minute: int, placed: int, delivered: int) -> None:
            progress.update(task, completed=delivered, at=simulated(minute * 60_000))

        result = run_day(folder, stopwatch=monotonic_s, progress=told)
    if out is not None:
        write_solution(result, out)
    show(folder.name, result.metrics, as_json)
