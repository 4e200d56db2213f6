"""`hexrun sim fit`: a scenario from a log of orders, and how like a held-out day it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from api.cli.day import bad_of
from geo.errors import InvalidValue

if TYPE_CHECKING:
    from sim.logs.table import OrderLog


@dataclass(frozen=True, slots=True, kw_only=True)
class FitOptions:
    """What `hexrun sim fit` was asked."""

    log: Path
    couriers: Path | None
    out: Path | None
    hold_out: str | None
    mapping: Path | None
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
        mapping: Annotated[
            Path | None, typer.Option("--map", help="YAML: how the columns are read.")
        ] = None,
        bad: Annotated[
            str, typer.Option(help="What becomes of a log with bad rows: stop or drop.")
        ] = "stop",
        zone: Annotated[str | None, typer.Option(help="The time zone of the files.")] = None,
        date: Annotated[
            str | None, typer.Option(help="The day of files that have times of the day only.")
        ] = None,
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

    log = _read_orders(options.log, options)
    couriers = _read_couriers(options)
    log, other = _held_out(log, options)
    name = options.name or (options.out.stem if options.out is not None else "fitted")
    fitted = fit_scenario(log, couriers, name)
    files = write_scenario(fitted.scenario, options.out) if options.out is not None else ()
    last = int(local_of(log).day[-1])
    measured = goodness(fitted.scenario, log.take(of_day(log, last)) if other is None else other)
    figures = fit_figures(fitted) | {
        "files": [str(file) for file in files],
        "goodness": goodness_figures(measured, other is not None),
    }
    if options.as_json:
        print(json.dumps(figures, ensure_ascii=False, allow_nan=False))
    else:
        _show(figures)


def _read_orders(path: Path, options: FitOptions) -> OrderLog:
    from sim.logs.mapping import load_mapping
    from sim.logs.reading import read_log

    mapping = load_mapping(options.mapping) if options.mapping is not None else None
    bad = bad_of(options.bad)
    read = read_log(path, mapping, bad=bad, zone=options.zone, day=options.date)
    if not read.report.good:
        typer.echo("\n".join(read.report.lines()), err=True)
    return read.log


def _read_couriers(options: FitOptions) -> Any:
    from sim.logs.reading import COURIERS_NAME, read_couriers

    path = options.couriers
    if path is None and (options.log / COURIERS_NAME).is_file():
        path = options.log / COURIERS_NAME
    if path is None:
        return None
    bad = bad_of(options.bad)
    read = read_couriers(path, bad=bad, zone=options.zone, day=options.date)
    if not read.report.good:
        typer.echo("\n".join(read.report.lines()), err=True)
    return read.log


def _held_out(log: OrderLog, options: FitOptions) -> tuple[OrderLog, OrderLog | None]:
    """The log to fit, and the day that it does not have."""
    from sim.fit.counts import of_day

    text = options.hold_out
    if text is None:
        return log, None
    try:
        ordinal = date.fromisoformat(text).toordinal()
    except ValueError:
        return log, _read_orders(Path(text), options)
    mine = of_day(log, ordinal)
    if not mine.any() or mine.all():
        expected = "a date of the log, which has other dates too"
        raise InvalidValue("--hold-out", text, expected)
    return log.take(~mine), log.take(mine)


def _show(figures: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from sim.report import table

    console, good = Console(), figures["goodness"]
    plain = {name: value for name, value in figures.items() if name not in ("goodness", "files")}
    console.print(table("the fit", plain))
    seen = "held out" if good["held_out"] else "in the log"
    title = f"against {good['day']} ({seen}): {good['orders']:,} orders"
    measures = Table(
        title=f"{title}, {good['orders_expected']:,.0f} expected", title_justify="left"
    )
    for name in ("measure", "fitted", "rival", "perfect", "p"):
        measures.add_column(name, justify="left" if name == "measure" else "right")
    for name, m in good["measures"].items():
        p = "-" if m["p"] is None else f"{m['p']:.3g}"
        row = (f"{m[which]:.4g}" for which in ("fitted", "rival", "perfect"))
        measures.add_row(name.replace("_", " "), *row, p)
    console.print(measures)
    for name, q in good["quantiles"].items():
        shares = Table(title=f"quantiles of {name.replace('_', ' ')}", title_justify="left")
        for head in ("", *(f"{share:.0%}" for share in q["at"])):
            shares.add_column(head, justify="right" if head else "left")
        for who in ("held_out", "fitted"):
            shares.add_row(who.replace("_", " "), *(f"{value:,.0f}" for value in q[who]))
        console.print(shares)
    for file in figures["files"]:
        print(file)
