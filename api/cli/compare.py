"""`hexrun sim compare` and `hexrun sim aa`: two arms on the same seeds, and a check of how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from api.cli.interrupt import INTERRUPTED, stoppable
from api.cli.output import say, say_table, write_text
from api.cli.progress import bar
from api.cli.workers import Job, Workers
from api.clock import monotonic_s
from geo.errors import CannotWrite, InvalidValue, MissingFile
from sim.experiments.arms import Arm, read_arm
from sim.experiments.compare import METHOD, Comparison, Design, compare, report
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
    as_json: bool,
) -> int:
    """Runs both arms and prints what came out; the exit code, 130 where Ctrl-C ended it."""
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
    if found is None:
        return INTERRUPTED
    total_s = monotonic_s() - began_s
    shown = {
        "a": names[0],
        "b": names[1],
        "scenario": scenario,
        "seed": design.seed,
        "seeds": len(found.table.seeds),
        "kpi": list(design.kpis),
        "precision": design.precision,
        "precision_reached": design.reached(found.table),
        "level": design.level,
        "method": METHOD,
        **({"interrupted": True} if found.interrupted else {}),
        "runs": runs,
        "orders_per_s": orders / total_s if total_s > 0 else 0.0,
        "total_s": total_s,
        "results": report(found),
    }
    if as_json:
        say(to_json_line(shown))
    else:
        _say_in_words(shown)
    if save is not None:
        write_text(save, write_csv(found.table))
    return INTERRUPTED if found.interrupted else 0


def _run(arms: tuple[Arm, Arm], design: Design, workers: int) -> tuple[Comparison | None, int, int]:
    """What came out, runs done, and the orders in them."""
    title = f"{arms[0].name} and {arms[1].name}"
    size = [arm.scenario.orders.count for arm in arms]
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


def _say_in_words(shown: Mapping[str, Any]) -> None:
    """Figures that are the same in every run are left to JSON, unless they were asked for."""
    title = f"A {shown['a']}, B {shown['b']}, {shown['seeds']} seeds"
    out = Table(title=title, title_justify="left")
    for i, head in enumerate(("figure", "A", "B", "B - A, 95 %", "seeds saved", "")):
        out.add_column(head, justify="left" if i in (0, 5) else "right")
    for line in shown["results"]:
        name, cut = line["kpi"], line["variance_cut"]
        asked = name in shown["kpi"]
        if line["low"] == line["high"] == 0.0 and not asked:
            continue
        words, a = value_in_words(name, line["a"])
        out.add_row(
            f"[bold]{words}[/bold]" if asked else words,
            a,
            value_in_words(name, line["b"])[1],
            difference_in_words(name, line["difference"], line["low"]),
            "-" if cut is None else f"{cut:,.1f} x",
            line["verdict"],
        )
    say_table(out)
    if shown.get("interrupted"):
        say(f"interrupted: {shown['seeds']} seeds were done")
    elif not shown["precision_reached"]:
        say(f"a precision of {shown['precision']} takes more than {shown['seeds']} seeds")


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
