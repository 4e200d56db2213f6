"""`hexrun sim compare` and `hexrun sim aa`: two arms on the same seeds, and a check of how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from api.cli.interrupt import INTERRUPTED, stoppable
from api.cli.output import say, say_table, write_text
from api.cli.progress import bar
from api.cli.workers import Job, Workers
from api.clock import monotonic_s
from geo.errors import CannotWrite, InvalidValue, MissingFile
from sim.arrivals import orders_expected
from sim.experiments.arms import Arm, read_arm
from sim.experiments.compare import (
    B_IS,
    METHOD,
    STOPPED,
    Comparison,
    Design,
    compare,
    report,
)
from sim.experiments.relabel import false_alarms
from sim.experiments.table import OF_THE_MACHINE, read_csv, write_csv
from sim.report import difference_in_words, to_json_line, value_in_words
from sim.scenario import load_scenario, utf8_text
from sim.tally import NAMES, Kpis


def run_compare(
    names: tuple[str, str],
    scenario: str | None,
    design: Design,
    *,
    workers: int,
    save: Path | None,
    every: bool,
    as_json: bool,
) -> int:
    """Runs both arms and prints what came out; the exit code, 130 where Ctrl-C ended it.

    `every` shows people the figures that were not asked for, too.
    """
    known = [name for name in NAMES if name not in OF_THE_MACHINE]
    for kpi in design.kpis:
        if kpi not in known:
            raise InvalidValue("kpi", kpi, "one of " + ", ".join(known))
    on = None if scenario is None else load_scenario(scenario)
    arms = (read_arm(names[0], on), read_arm(names[1], on))
    if save is not None and not save.parent.is_dir():
        raise CannotWrite(str(save), "there is no such folder")  # now, not after an hour
    began_s = monotonic_s()
    found, runs, orders = _run(arms, design, workers)
    total_s = monotonic_s() - began_s
    interrupted = found is None or found.interrupted
    shown = {
        "a": names[0],
        "b": names[1],
        "scenario": scenario,
        "seed": design.seed,
        "seeds": 0 if found is None else len(found.table.seeds),
        "kpi": list(design.kpis),
        "precision": design.precision,
        "precision_reached": found is not None and not found.unreached,
        "not_reached": dict.fromkeys(design.kpis, STOPPED) if found is None else found.unreached,
        "level": design.level,
        "method": METHOD,
        **({"interrupted": True} if interrupted else {}),
        "runs": runs,
        "orders_per_s": orders / total_s if total_s > 0 else 0.0,
        "total_s": total_s,
        "results": [] if found is None else report(found),
    }
    if as_json:
        say(to_json_line(shown))
    else:
        _say_in_words(shown, every)
    if save is not None and found is not None:
        write_text(save, write_csv(found.table))
    return INTERRUPTED if interrupted else 0


def _run(arms: tuple[Arm, Arm], design: Design, workers: int) -> tuple[Comparison | None, int, int]:
    """What came out, runs done, and the orders in them."""
    title = f"{arms[0].name} and {arms[1].name}"
    size = [orders_expected(arm.scenario) for arm in arms]
    runs = orders = 0
    with (
        bar(title, None) as (progress, task),
        stoppable() as stop,
        Workers(workers, 2 * design.seeds_max, stop) as pool,
    ):

        def run(seeds: Sequence[int]) -> list[tuple[Kpis, Kpis] | None]:
            nonlocal runs, orders
            jobs = [
                Job(f"{arm.name}, seed {seed}", arm.scenario, seed)
                for seed in seeds
                for arm in arms
            ]
            before = runs
            progress.update(task, total=orders + sum(size) * len(seeds))

            def told(ended: int, done: int) -> None:
                at = f"{before + done} of {before + len(jobs)} runs"
                progress.update(task, completed=orders + ended, at=at)

            results = pool.run(jobs, told)
            whole = [None if r is None or r.interrupted else r for r in results]
            runs += sum(r is not None for r in whole)
            orders += sum(r.tally.counts["created"] for r in whole if r is not None)
            return [
                None if a is None or b is None else (a.kpis, b.kpis)
                for a, b in zip(whole[0::2], whole[1::2], strict=True)
            ]

        return compare(run, design), runs, orders


def _say_in_words(shown: Mapping[str, Any], every: bool) -> None:
    """What was asked for in a table, and a word about the rest. A row is at most 80 wide."""
    title = f"A {shown['a']}, B {shown['b']}, {shown['seeds']} seeds"
    asked = [line for line in shown["results"] if line["kpi"] in shown["kpi"]]
    others = [line for line in shown["results"] if line["kpi"] not in shown["kpi"]]
    varying = [line for line in others if not line["low"] == line["high"] == 0.0]
    out = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for i, head in enumerate(("figure", "A", "B", "B - A, 95 %", "B is")):
        out.add_column(head, justify="left" if i in (0, 4) else "right", no_wrap=True)
    for line in asked + (varying if every else []):
        name, found = line["kpi"], line["verdict"]
        words, a = value_in_words(name, line["a"])
        out.add_row(
            f"[bold]{words}[/bold]" if every and line in asked else words,
            a,
            value_in_words(name, line["b"])[1],
            difference_in_words(name, line["difference"], line["low"]),
            found.removeprefix(B_IS) if found.startswith(B_IS) else "?",
        )
    if shown["results"]:
        say_table(out)
    for line in asked:
        if (cut := line["variance_cut"]) is not None:
            say(f"{line['kpi']}: seeds of their own would take {cut:,.1f} times as many")
    if shown.get("interrupted"):
        say(f"interrupted: {shown['seeds']} seeds were done")
    else:
        for kpi, why in shown["not_reached"].items():
            say(f"{kpi} to {shown['precision']}: {why}")
    differ = [line["kpi"] for line in varying if line["verdict"].startswith(B_IS)]
    if differ:
        say(f"of {len(others)} figures that were not asked for {len(differ)} show a difference")
        say("(one of twenty does by chance)" + ("" if every else ": --all, --json, or --kpi NAME"))


def run_aa(file: Path, design: Design, draws: int, *, across: bool, as_json: bool) -> None:
    """Deals the labels of a saved table anew, and prints how often the comparison cries wolf."""
    if not file.is_file():
        raise MissingFile(str(file), "the check")
    table = read_csv(utf8_text(file, "CSV"))
    rng = np.random.default_rng(design.seed)
    found = false_alarms(table, design, draws, rng, across=across)
    shown = {
        "table": str(file),
        "table_seeds": len(table.seeds),
        "draws": found.draws,
        "across": across,
        "seeds": found.seeds,
        **{name: value for name, value in asdict(design).items() if name != "kpis"},
        "kpi": list(design.kpis),
        "false_alarm_share": found.share,
    }
    if as_json:
        say(to_json_line(shown))
        return
    out = Table(title=f"{draws} draws of {found.seeds:.1f} seeds", title_justify="left")
    out.add_column("figure")
    out.add_column("cries wolf", justify="right")
    for name, share in found.share.items():
        out.add_row(name.replace("_", " "), "-" if share is None else f"{share:.2%}")
    say_table(out)
