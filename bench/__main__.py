"""`python -m bench KIND NAME [--json]`."""

from __future__ import annotations

import typer

from bench.chaos.command import chaos

app = typer.Typer(no_args_is_help=True, help=__doc__)
speed = typer.Typer(no_args_is_help=True, help="How fast the parts are, beside a rival.")
app.add_typer(speed, name="speed")


@speed.command("round")
def speed_round(runs: int = 20, as_json: bool = typer.Option(False, "--json")) -> None:
    """One round up to the matched plan against scipy's dense assignment."""
    from bench.speed.round import run

    run(runs, as_json)


app.command("chaos")(chaos)

app()
