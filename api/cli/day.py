"""`hexrun sim day`: a real day's orders and couriers, replayed under the virtual clock."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli.orderlog import (
    BadRows,
    Map,
    MapCouriers,
    Zone,
    bad_of,
    read_courier_log,
    read_order_log,
    refusal_told,
)
from geo.errors import InvalidValue, MissingFile


@dataclass(frozen=True, slots=True, kw_only=True)
class DayOptions:
    """What `hexrun sim day` was asked."""

    folder: Path
    seed: int
    couriers: float
    policy: Path | None
    mapping: Path | None
    map_couriers: Path | None
    bad: str
    zone: str | None
    date: str | None
    untold: bool
    as_json: bool


def register(sim: typer.Typer) -> None:
    """Adds the command to `hexrun sim`."""

    @sim.command("day")
    def sim_day(
        folder: Annotated[Path, typer.Argument(help="It holds orders.csv and couriers.csv.")],
        couriers: Annotated[
            float, typer.Option(help="The share of the couriers that ride.", min=0.0, max=1.0)
        ] = 1.0,
        seed: Annotated[int, typer.Option(help="Names the random streams.", min=0)] = 1,
        policy: Annotated[
            Path | None, typer.Option(help="YAML of policy keys, laid over the shipped policy.")
        ] = None,
        mapping: Map = None,
        map_couriers: MapCouriers = None,
        bad: BadRows = "stop",
        zone: Zone = None,
        date: Annotated[
            str | None,
            typer.Option(help="The day: of several, or of files with times of the day only."),
        ] = None,
        untold: Annotated[
            bool, typer.Option("--untold", help="Nobody is told when the goods will be ready.")
        ] = False,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON line instead of a table.")
        ] = False,
    ) -> None:
        """Replay a real day's orders and couriers in their own places.

        The folder holds a Rappi day's files, files in our own format, or any that --map and
        --map-couriers explain (docs/simulator.md).
        """
        options = DayOptions(
            folder=folder,
            seed=seed,
            couriers=couriers,
            policy=policy,
            mapping=mapping,
            map_couriers=map_couriers,
            bad=bad,
            zone=zone,
            date=date,
            untold=untold,
            as_json=as_json,
        )
        raise typer.Exit(run(options))


def run(options: DayOptions) -> int:
    """Reads the folder, runs the day and prints its figures; the exit code, 130 after Ctrl-C."""
    from api.cli.interrupt import INTERRUPTED, stoppable
    from api.cli.output import show
    from api.cli.progress import bar, simulated
    from api.clock import monotonic_s
    from sim.commands import run_scenario
    from sim.days import DAY_POLICY, DayBook, fastest_mps, of_date, real_day
    from sim.logs.reading import COURIERS_NAME, MDRP_NAME
    from sim.policies import read_policy
    from sim.report import figures
    from sim.run import Progress as Told

    folder, bad = options.folder, bad_of(options.bad)
    if (folder / MDRP_NAME).is_file():
        raise InvalidValue("folder", str(folder), "a real day; a benchmark's: hexrun sim mdrp")
    if not (folder / COURIERS_NAME).is_file():
        raise MissingFile(str(folder / COURIERS_NAME), "the couriers of a day")
    with refusal_told(options.as_json):
        asked: Any = {"bad": bad, "zone": options.zone, "day": options.date}
        orders = read_order_log(folder, options.mapping, **asked)
        couriers = read_courier_log(folder, options.map_couriers, orders=orders.log, **asked)
    for report in (orders.report, couriers.report):
        if not report.good:
            typer.echo("\n".join(report.lines()), err=True)
    logs = orders.log, couriers.log
    if options.date is not None:
        logs = of_date(*logs, options.date)
    policy = DAY_POLICY if options.policy is None else read_policy(options.policy, DAY_POLICY)
    real = real_day(
        f"day-{folder.resolve().name}",
        *logs,
        options.seed,
        share=options.couriers,
        told=not options.untold,
        policy=policy,
    )
    book = DayBook(logs[0])
    title = f"{folder}, seed {options.seed}"
    began_ms = real.day.scenario.start_ms
    with bar(title, len(logs[0])) as (progress, task), stoppable() as stop:

        def told(now: Told) -> None:
            at = simulated(now.at_ms - began_ms)
            progress.update(task, completed=now.ended, total=now.orders, at=at)

        result = run_scenario(
            real.day.scenario,
            options.seed,
            stopwatch=monotonic_s,
            progress=told,
            day=real.day,
            on_event=book.add,
            stop=stop,
        )
    mended = sum(orders.report.mended.values()) + sum(couriers.report.mended.values())
    found: dict[str, Any] = figures(result)
    found |= book.result(fastest_mps(real.day.crew))
    found |= {
        "orders_too_large": real.too_large,
        "couriers_share": options.couriers,
        "couriers_logged": real.couriers,
        "couriers_thinned": real.thinned,
        "couriers_never_on": real.never_on,
        "couriers_elsewhere": real.elsewhere,
        "rows_mended": mended,
        "rows_dropped": orders.report.bad_rows + couriers.report.bad_rows,
    }
    show(title, found, options.as_json)
    return INTERRUPTED if result.interrupted else 0
