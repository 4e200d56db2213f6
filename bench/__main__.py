"""`python -m bench KIND NAME [--json]`."""

from __future__ import annotations

import typer

from bench.chaos.command import chaos

app = typer.Typer(no_args_is_help=True, help=__doc__)
speed = typer.Typer(no_args_is_help=True, help="How fast the parts are, beside a rival.")
app.add_typer(speed, name="speed")
load = typer.Typer(no_args_is_help=True, help="How much the store takes, beside a rival.")
app.add_typer(load, name="load")


@speed.command("round")
def speed_round(runs: int = 20, as_json: bool = typer.Option(False, "--json")) -> None:
    """One round up to the matched plan against scipy's dense assignment."""
    from bench.speed.round import run

    run(runs, as_json)


@speed.command("sim")
def speed_sim(
    largest: int = typer.Option(300_000, "--max", help="The largest size to run, in orders."),
    seed: int = 1,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """How a simulated order's time grows from 10,000 orders to --max, at one density."""
    from bench.speed.sim import run

    run(largest, seed, as_json)


@load.command("live")
def load_live(
    orders: int = 600,
    riders: int = 80,
    live_max: int = 80,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Orders through their whole life by the whole live system, over HTTP and sockets."""
    from bench.load.live import run

    run(orders, riders, live_max, as_json)


@load.command("orders")
def load_orders(
    workers: int = 16,
    batches: int = 6,
    runs: int = 3,
    as_json: bool = typer.Option(False, "--json"),
) -> None:
    """Orders through their whole life against bare asyncpg that writes the same rows."""
    from bench.load.orders import run

    run(workers, batches, runs, as_json)


@app.command()
def disk(orders: int = 3_000, as_json: bool = typer.Option(False, "--json")) -> None:
    """How much room a city of 100,000 orders and 4,000 riders takes a day."""
    from bench.load.disk import run

    run(orders, as_json)


app.command("chaos")(chaos)

app()
