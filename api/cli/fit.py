"""`hexrun sim fit`: a scenario from a log of orders, and how like a held-out day it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

from api.cli.orderlog import (
    BadRows,
    Date,
    Map,
    MapCouriers,
    Zone,
    bad_of,
    read_courier_log,
    read_order_log,
    refusal_told,
)
from api.cli.output import say, say_table
from geo.errors import InvalidValue

if TYPE_CHECKING:
    from sim.logs.report import Report
    from sim.logs.table import CourierLog, OrderLog


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """What `hexrun sim fit` was asked."""

    log: Path
    couriers: Path | None
    out: Path | None
    hold_out: str | None
    mapping: Path | None
    map_couriers: Path | None
    bad: str
    zone: str | None
    date: str | None
    name: str | None
    as_json: bool


def register(sim: typer.Typer) -> None:
    """Adds the command to `hexrun sim`."""

    @sim.command("fit")
    def sim_fit(
        log: Annotated[Path, typer.Argument(help="Orders: CSV, Parquet, or a day's folder.")],
        couriers: Annotated[
            Path | None,
            typer.Option(help="Couriers: CSV or Parquet; by default those in the day's folder."),
        ] = None,
        out: Annotated[
            Path | None, typer.Option(help="Write the scenario here (.yaml), its tables beside it.")
        ] = None,
        hold_out: Annotated[
            str | None,
            typer.Option(
                "--hold-out",
                help="A date of the log, left out of the fit, or a log of another day.",
            ),
        ] = None,
        mapping: Map = None,
        map_couriers: MapCouriers = None,
        bad: BadRows = "stop",
        zone: Zone = None,
        date: Date = None,
        name: Annotated[str | None, typer.Option(help="The city's name.")] = None,
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON line instead of tables.")
        ] = False,
    ) -> None:
        """Fit a scenario to a log of orders, and report how like a day it is.

        Without --hold-out the report is about the log's own last day, which the fit has seen.
        """
        run(
            FitOptions(
                log=log,
                couriers=couriers,
                out=out,
                hold_out=hold_out,
                mapping=mapping,
                map_couriers=map_couriers,
                bad=bad,
                zone=zone,
                date=date,
                name=name,
                as_json=as_json,
            )
        )


def run(options: FitOptions) -> None:
    """Reads the logs, fits, writes what was asked for, and prints the report."""
    from sim.fit.counts import local_of, of_day
    from sim.fit.goodness import goodness
    from sim.fit.report import fit_figures, goodness_figures
    from sim.fit.scenario import fit_scenario, write_scenario
    from sim.report import to_json_line

    log = _read_orders(options.log, options)
    couriers = _read_couriers(options, log)
    log, other, without = _held_out(log, options)
    name = options.name or (options.out.stem if options.out is not None else "fitted")
    fitted = fit_scenario(log, couriers, name, without)
    last = int(local_of(log).day[-1])
    measured = goodness(fitted.scenario, log.take(of_day(log, last)) if other is None else other)
    files = write_scenario(fitted.scenario, options.out) if options.out is not None else ()
    figures = fit_figures(fitted) | {
        "files": [str(file) for file in files],
        "goodness": goodness_figures(measured, other is not None),
    }
    if options.as_json:
        say(to_json_line(figures))
    else:
        _show(figures)


def _read_orders(path: Path, options: FitOptions) -> OrderLog:
    with refusal_told(options.as_json):
        read = read_order_log(
            path, options.mapping, bad=bad_of(options.bad), zone=options.zone, day=options.date
        )
    _tell(read.report)
    return read.log


def _read_couriers(options: FitOptions, orders: OrderLog) -> CourierLog | None:
    from sim.logs.reading import COURIERS_NAME

    path = options.couriers
    if path is None and (options.log / COURIERS_NAME).is_file():
        path = options.log / COURIERS_NAME
    if path is None:
        return None
    with refusal_told(options.as_json):
        read = read_courier_log(
            path,
            options.map_couriers,
            bad=bad_of(options.bad),
            zone=options.zone,
            day=options.date,
            orders=orders,
        )
    _tell(read.report)
    return read.log


def _tell(report: Report) -> None:
    if not report.good:
        typer.echo("\n".join(report.lines()), err=True)


def _held_out(log: OrderLog, options: FitOptions) -> tuple[OrderLog, OrderLog | None, int | None]:
    """The log to fit, the day that it does not have, and that date if it was one of the log's."""
    from sim.fit.counts import of_day

    text = options.hold_out
    if text is None:
        return log, None, None
    try:
        ordinal = date.fromisoformat(text).toordinal()
    except ValueError:
        return log, _read_orders(Path(text), options), None
    mine = of_day(log, ordinal)
    if not mine.any() or mine.all():
        expected = "a date of the log, which has other dates too"
        raise InvalidValue("--hold-out", text, expected)
    return log.take(~mine), log.take(mine), ordinal


def _show(figures: dict[str, Any]) -> None:
    from rich.table import Table

    from sim.report import table

    good = figures["goodness"]
    plain = {name: value for name, value in figures.items() if name not in ("goodness", "files")}
    parts: list[RenderableType] = [table("the fit", plain)]
    seen = "held out" if good["held_out"] else "in the log"
    title = f"against {good['day']} ({seen}): {good['orders']:,} orders"
    ratio = "-" if good["volume_ratio"] is None else f"{good['volume_ratio']:.2f}"
    title += f", {good['orders_expected']:,.0f} expected, volume ratio {ratio}"
    measures = Table(title=title, title_justify="left")
    for name in ("measure", "fitted", "rival", "perfect", "p"):
        measures.add_column(name, justify="left" if name == "measure" else "right")
    for name, m in good["measures"].items():
        p = "-" if m["p"] is None else f"{m['p']:.3g}"
        row = (f"{m[which]:.4g}" for which in ("fitted", "rival", "perfect"))
        measures.add_row(name.replace("_", " "), *row, p)
    parts.append(measures)
    for name, q in good["quantiles"].items():
        shares = Table(title=f"quantiles of {name.replace('_', ' ')}", title_justify="left")
        for head in ("", *(f"{share:.0%}" for share in q["at"])):
            shares.add_column(head, justify="right" if head else "left")
        for who in ("held_out", "fitted"):
            shares.add_row(who.replace("_", " "), *(f"{value:,.0f}" for value in q[who]))
        parts.append(shares)
    say_table(*parts)
    for file in figures["files"]:
        say(file)
