"""The commands and their options; each imports what it needs when it runs."""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from api.cli import completion, day, fit, orderlog

app = typer.Typer(
    name="hexrun",
    help="Real-time dispatch and tracking for instant delivery and errands.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
sim = typer.Typer(
    help="Simulate a city, run benchmark days, replay journals.", no_args_is_help=True
)
jobs = typer.Typer(help="The registered job types.", no_args_is_help=True)
app.add_typer(sim, name="sim")
app.add_typer(jobs, name="jobs")
data_keys = typer.Typer(help="The keys that encrypt personal data.", no_args_is_help=True)
app.add_typer(data_keys, name="data-keys")
key = typer.Typer(help="API keys for servers.", no_args_is_help=True)
app.add_typer(key, name="key")

Data = Annotated[Path, typer.Option(help="The data folder.", envvar="HEXRUN_DATA")]
Seed = Annotated[int, typer.Option(help="Names the random streams.", min=0)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON line instead of a table.")]
Zone = Annotated[str, typer.Option(help="Where times of day are told: an IANA name.")]
ScenarioName = Annotated[
    str,
    typer.Argument(help="A shipped scenario or a YAML file.", autocompletion=completion.scenarios),
]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy",
        help="A YAML file of policy keys, over its own policy.",
        autocompletion=completion.yaml_files,
    ),
]
WorkerCount = Annotated[int, typer.Option("--workers", help="Processes.", min=1, max=64)]


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"hexrun {version('hexrun')}")
        raise typer.Exit


@app.callback()
def main(
    _: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    pass


@app.command()
def up(data: Data = Path("data")) -> None:
    """Run the live system on this machine until Ctrl-C.

    The environment names its city (HEXRUN_CITY=name:lat,lon), its ports (HEXRUN_HTTP_PORT,
    HEXRUN_STREAM_PORT) and more: all variables are in docs/running.md.
    """
    from api.cli.live import up as run

    run(data)


@app.command()
def demo(
    minutes: Annotated[
        float | None, typer.Option(help="Stop after so many minutes.", min=0.05)
    ] = None,
    headless: Annotated[bool, typer.Option(help="No status line.")] = False,
    as_json: AsJson = False,
    data: Annotated[Path, typer.Option(help="Its folder; the last demo's is removed.")] = Path(
        ".demo"
    ),
    scenario: Annotated[
        str,
        typer.Option(
            help="A shipped scenario or a YAML file.", autocompletion=completion.scenarios
        ),
    ] = "demo",
    seed: Seed = 1,
) -> None:
    """Run a live city with bots and print its KPIs at the end."""
    from api.cli.demo import DemoOptions
    from api.cli.demo import demo as run

    run(
        DemoOptions(
            data=data,
            scenario=scenario,
            seed=seed,
            minutes=minutes,
            headless=headless,
            as_json=as_json,
        )
    )


@app.command()
def role(
    name: Annotated[
        str,
        typer.Argument(
            help="dispatcher, gateway, http, sequencer, webhooks, migrate or bots.",
            autocompletion=completion.roles,
        ),
    ],
    data: Data = Path("data"),
    scenario: Annotated[str, typer.Option(help="For bots: the city they follow.")] = "demo",
    seed: Seed = 1,
) -> None:
    """Run one process of the live system (the servers are named by the environment)."""
    os.environ["HEXRUN_DATA"] = str(data)
    if name == "bots":
        from api.cli.roles import run_bots

        run_bots(scenario, seed)
    else:
        from api.cli.roles import run_role

        run_role(name)


@app.command()
def token(
    role: Annotated[str, typer.Option(help="customer, merchant, rider, operator or integrator.")],
    sub: Annotated[str, typer.Option(help="Whose: the id in that role.")],
    city: Annotated[
        str | None, typer.Option(help="The city it is good for; the data folder's own if none.")
    ] = None,
    minutes: Annotated[int, typer.Option(help="How long it is good.", min=1)] = 15,
    data: Data = Path("data"),
) -> None:
    """Print a bearer token signed with the data folder's secret."""
    from api.auth import Role, mint
    from api.settings import city_name, read_secret
    from geo.errors import UnknownName

    if role not in tuple(Role):
        raise UnknownName("role", role, "one of " + ", ".join(Role))
    secret = read_secret(os.environ, data, make=False)
    city = city or city_name(os.environ, data)
    typer.echo(mint(secret, sub=sub, role=role, city=city, ttl_s=60 * minutes))


@app.command("sweep")
def sweep_files(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Drop old segments and journals that nobody has open, where no `hexrun up` does it."""
    from api.keep import Keep
    from api.supervisor.sweep import sweep_once

    days = Keep.from_environment(os.environ).files_days
    dropped = sweep_once(data, days)
    if as_json:
        typer.echo(json.dumps({"files_dropped": len(dropped), "older_than_days": days}))
        return
    typer.echo(f"hexrun: {len(dropped)} files older than {days} days are dropped")


@app.command("backup")
def back_up(
    target: Annotated[Path, typer.Argument(help="A folder that does not exist yet.")],
    data: Data = Path("data"),
    keys: Annotated[
        bool, typer.Option("--keys", help="Put the secret and the data keys in, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Back the live system up, while it runs or not: orders, events, positions, journals."""
    import asyncio

    from api.backup import backup

    _tell_backup(asyncio.run(backup(data, target, with_keys=keys)), f"in {target}", as_json)


@app.command("restore")
def restore_backup(
    source: Annotated[Path, typer.Argument(help="The folder that `hexrun backup` wrote.")],
    data: Annotated[Path, typer.Option(help="The new data folder.")],
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Delete all API keys, and leave the secret out.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Restore a backup into a new data folder, and into the database that goes with it."""
    import asyncio

    from api.backup import restore

    manifest = asyncio.run(restore(source, data, revoke=revoke))
    _tell_backup(manifest, f"from {source} in {data}", as_json)


def _tell_backup(manifest: dict[str, Any], where: str, as_json: bool) -> None:
    files = manifest["files"].values()
    facts = {name: manifest[name] for name in ("revision", "orders", "position")}
    facts |= {"files": len(files), "bytes": sum(file["bytes"] for file in files)}
    if as_json:
        typer.echo(json.dumps(facts))
        return
    typer.echo(
        f"hexrun: {facts['orders']} orders, events up to {facts['position']}, "
        f"{facts['files']} files of {facts['bytes'] / 1e6:.1f} MB {where}"
    )


@data_keys.command("list")
def keys_list(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Every key, the newest last, and how many rows it encrypts."""
    from api.cli.data_keys import list_keys

    list_keys(data, as_json)


@data_keys.command("rotate")
def keys_rotate(data: Data = Path("data")) -> None:
    """Add a key. It encrypts from now on; the running system encrypts older rows again by it."""
    from api.cli.data_keys import rotate

    rotate(data)


@data_keys.command("remove")
def keys_remove(
    key_id: Annotated[str, typer.Argument(help="As `hexrun data-keys list` shows it.")],
    data: Data = Path("data"),
) -> None:
    """Remove a key by which nothing is encrypted any more."""
    from api.cli.data_keys import remove

    remove(key_id, data)


@key.command("create")
def key_create(
    role: Annotated[str, typer.Option(help="integrator, merchant or operator.")],
    sub: Annotated[str, typer.Option(help="Whose: the id in that role.")],
    tenant: Annotated[str, typer.Option(help="The brand it is good for.")] = "default",
    city: Annotated[
        str | None, typer.Option(help="The city it is good for; the data folder's own if none.")
    ] = None,
    label: Annotated[str, typer.Option(help="To know it by in the list.")] = "",
    days: Annotated[int | None, typer.Option(help="How long it is good.", min=1)] = None,
    data: Data = Path("data"),
) -> None:
    """Make an API key and print it, once. Needs the database: the folder's own, while it runs."""
    from api.cli.api_keys import create

    create(role=role, sub=sub, tenant=tenant, city=city, label=label, days=days, data=data)


@sim.command("run")
def sim_run(
    scenario: ScenarioName,
    seed: Seed = 1,
    policy: PolicyFile = None,
    workers: WorkerCount = 1,
    as_json: AsJson = False,
) -> None:
    """Run a scenario under the virtual clock and print its KPIs.

    A scenario of several cities runs them side by side in --workers processes. Ctrl-C ends the run
    and prints what is done, marked as interrupted, with exit code 130; a second one ends at once.
    """
    from api.cli.simulate import run

    raise typer.Exit(run(scenario, seed, policy, workers, as_json))


Kpi = Annotated[
    list[str],
    typer.Option(
        "--kpi",
        help="A figure that is to be precise; may be repeated.",
        autocompletion=completion.kpis,
    ),
]
PrecisionText = Annotated[
    str,
    typer.Option("--precision", help="To either side: 0.5% of A's, 6s, or in the figure's unit."),
]
SeedsMin = Annotated[int, typer.Option(help="Seeds of the first stage.", min=8)]
SeedsMax = Annotated[int, typer.Option(help="Seeds at most.", min=8)]


@sim.command("compare")
def sim_compare(
    a: Annotated[
        str,
        typer.Argument(
            help="A policy's YAML file, a scenario, or base: the scenario's own policy.",
            autocompletion=completion.arms,
        ),
    ],
    b: Annotated[
        str, typer.Argument(help="What it is compared with.", autocompletion=completion.arms)
    ],
    scenario: Annotated[
        str | None,
        typer.Option(help="What policies are tried on.", autocompletion=completion.scenarios),
    ] = None,
    kpi: Kpi = ["click_to_door_mean_min"],  # noqa: B006
    precision: PrecisionText = "1%",
    seeds_min: SeedsMin = 8,
    seeds_max: SeedsMax = 200,
    seed: Annotated[int, typer.Option(help="The first seed.", min=0)] = 1,
    workers: WorkerCount = 1,
    save: Annotated[
        Path | None, typer.Option(help="Write the figures of every run here, as CSV.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Show the other figures as well; JSON has them always.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Compare two policies or scenarios on the same seeds, until the precision is reached.

    Differences are B less A, with 95 % intervals. Ctrl-C reports the seeds that are done.
    """
    from api.cli.compare import run_compare
    from sim.experiments.compare import Design

    design = Design(
        kpis=tuple(kpi), precision=precision, seeds_min=seeds_min, seeds_max=seeds_max, seed=seed
    )
    done = run_compare(
        (a, b), scenario, design, workers=workers, save=save, every=every, as_json=as_json
    )
    raise typer.Exit(done)


@sim.command("aa")
def sim_aa(
    table: Annotated[Path, typer.Argument(help="What `hexrun sim compare --save` wrote.")],
    kpi: Kpi = ["click_to_door_mean_min"],  # noqa: B006
    precision: PrecisionText = "1%",
    seeds_min: SeedsMin = 8,
    seeds_max: SeedsMax = 200,
    across: Annotated[
        bool, typer.Option("--across", help="Among A's runs of different seeds: A against A.")
    ] = False,
    draws: Annotated[int, typer.Option(help="How often labels are dealt.", min=1)] = 10_000,
    seed: Seed = 1,
    as_json: AsJson = False,
) -> None:
    """Check how often `compare` cries wolf: its procedure on labels that chance has dealt."""
    from api.cli.compare import run_aa
    from sim.experiments.compare import Design

    design = Design(
        kpis=tuple(kpi), precision=precision, seeds_min=seeds_min, seeds_max=seeds_max, seed=seed
    )
    run_aa(table, design, draws, across=across, as_json=as_json)


@sim.command("scenarios")
def sim_scenarios(as_json: AsJson = False) -> None:
    """List the scenarios that come with hexrun, with their size."""
    from api.cli.listing import list_scenarios

    list_scenarios(as_json)


@sim.command("mdrp")
def sim_mdrp(
    folder: Annotated[Path, typer.Argument(help="A day of the Meal Delivery Routing Problem.")],
    out: Annotated[Path | None, typer.Option(help="Write the three solution files here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a benchmark day under the benchmark's rules.

    The folder holds orders.txt, restaurants.txt, couriers.txt and instance_parameters.txt; --out
    gets solution_info_assignments.txt, solution_info_orders.txt and solution_info_couriers.txt.
    """
    from api.cli.simulate import run_mdrp

    run_mdrp(folder, out, as_json)


@sim.command("replay")
def sim_replay(
    folder: Annotated[Path, typer.Argument(help="A live data folder with its journals.")],
    since: Annotated[str | None, typer.Option("--from", help="Rounds from then on.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="Rounds before then.")] = None,
    zone: Zone = "Asia/Shanghai",
    as_json: AsJson = False,
) -> None:
    """Replay live journals and check that every round decides the same; exit code 1 if not.

    Times are like 12:05 or 2026-06-01T12:05.
    """
    from api.cli.replay import run_replay

    if not run_replay(folder, since, until, zone, as_json):
        raise typer.Exit(1)


@sim.command("fork")
def sim_fork(
    folder: Annotated[Path, typer.Argument(help="A live data folder with its journals.")],
    at: Annotated[str, typer.Option(help="From when on: 12:05, or 2026-06-01T12:05.")],
    policy: Annotated[
        Path,
        typer.Option(
            help="YAML with the knobs that are otherwise.", autocompletion=completion.yaml_files
        ),
    ],
    until: Annotated[str | None, typer.Option(help="Orders come until then.")] = None,
    seed: Seed = 1,
    replicas: Annotated[int, typer.Option(help="So many seeds.", min=1, max=1000)] = 10,
    city: Annotated[str | None, typer.Option(help="Where the folder has several.")] = None,
    zone: Zone = "Asia/Shanghai",
    as_json: AsJson = False,
) -> None:
    """Go on from a recorded moment with another policy, and report the difference with its causes.

    Both the recorded policy and the other one are simulated, on the same orders and seeds.
    """
    from api.cli.fork import run_fork

    code = run_fork(
        folder,
        at=at,
        policy=policy,
        until=until,
        city=city,
        zone_name=zone,
        seed=seed,
        replicas=replicas,
        as_json=as_json,
    )
    raise typer.Exit(code)


@jobs.command("list")
def jobs_list(as_json: AsJson = False) -> None:
    """The registered job types and their stops."""
    from api.cli.output import say
    from dispatch.registry import job_types

    if as_json:
        stops = {name: list(job.stop_kinds) for name, job in sorted(job_types().items())}
        say(json.dumps({"job_types": stops}))
        return
    say(f"{'job type':<16}stops")
    for name, job in sorted(job_types().items()):
        say(f"{name:<16}{' > '.join(job.stop_kinds)}")


day.register(sim)
fit.register(sim)
orderlog.register(sim)
