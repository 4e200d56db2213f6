"""`python -m bench chaos`: breaks the live system on purpose and checks its promises."""

from __future__ import annotations

import typer

# orders, faults, riders, orders under way, orders a second (0: all it takes), seconds to be quiet
SHORT = (160, 28, 24, 60, 5.0, 45.0)
LONG = (20_000, 300, 80, 120, 0.0, 120.0)


def chaos(
    short: bool = typer.Option(False, "--short", help="A minute and a half in all."),
    orders: int = typer.Option(0, help="How many; 0 for the form's own number."),
    faults: int = typer.Option(0, help="How many; 0 for the form's own number."),
    rate: float = typer.Option(0.0, help="Orders a second at most; 0 for the form's own."),
    even: bool = typer.Option(False, "--even", help="Faults at even distances."),
    seed: int = typer.Option(1, help="Everything random comes from it."),
    only: str = typer.Option("", help="Kinds, verbs or targets of faults, with commas between."),
    keep: bool = typer.Option(False, "--keep", help="Keep the data folder in any case."),
    as_json: bool = typer.Option(False, "--json", help="The report as one line of JSON."),
    markdown: bool = typer.Option(False, "--markdown", help="A row for docs/reliability.md."),
) -> None:
    """Kill, pause, cut and slow the live system under load; exit code 1 for a broken promise."""
    from bench.chaos.run import Options, run

    form = SHORT if short else LONG
    options = Options(
        seed=seed,
        orders=orders or form[0],
        faults=faults or form[1],
        riders=form[2],
        live_max=form[3],
        rate=rate or form[4],
        quiet_s=form[5],
        even=even,
        only=only,
        keep=keep,
    )
    raise typer.Exit(run(options, "json" if as_json else "markdown" if markdown else "table"))
