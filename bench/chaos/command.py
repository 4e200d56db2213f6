"""`python -m bench chaos`: breaks the live system on purpose and checks its promises."""

from __future__ import annotations

import typer

# orders, faults, riders, orders a second, seconds at most until all is quiet
SHORT = (160, 28, 24, 5.0, 60.0)
LONG = (20_000, 300, 60, 8.0, 120.0)


def chaos(
    short: bool = typer.Option(False, "--short", help="A minute and a half in all."),
    orders: int = typer.Option(0, help="How many; 0 for the form's own number."),
    faults: int = typer.Option(0, help="How many; 0 for the form's own number."),
    rate: float = typer.Option(0.0, help="Orders a second; 0 for the form's own."),
    seed: int = typer.Option(1, help="Everything random comes from it."),
    keep: bool = typer.Option(False, "--keep", help="Keep the data folder in any case."),
    as_json: bool = typer.Option(False, "--json", help="The report as one line of JSON."),
) -> None:
    """Kill, pause, cut and slow the live system under load; exit code 1 for a broken promise."""
    from bench.chaos.run import Options, run

    form = SHORT if short else LONG
    options = Options(
        seed=seed,
        orders=orders or form[0],
        faults=faults or form[1],
        riders=form[2],
        rate=rate or form[3],
        quiet_s=form[4],
        keep=keep,
    )
    raise typer.Exit(run(options, as_json))
