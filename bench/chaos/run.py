"""One run from the first process to the verdict."""

from __future__ import annotations

import asyncio
import json
import logging
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from api.supervisor import DataFolder, Supervisor
from bench.chaos.checker import PROMISES, Evidence, Verdict, gather, judge
from bench.chaos.cpu import Cpu
from bench.chaos.plant import Plant, make_plant
from bench.chaos.recovery import recovery
from geo.errors import StartupError

LOOK_S = 0.25
OUTBOX_LIMIT_S = 60.0
SHOWN_MAX = 20
STOPPED = "stopped by a signal"


@dataclass(frozen=True)
class Options:
    """What a run is made of; everything random comes from `seed`.

    At most `live_max` orders are under way at a time, `rate` are placed a second at most, 0 for as
    many as the system takes. With `even` the faults are as far apart as they can be; `only` names
    kinds, verbs or targets.
    """

    seed: int
    orders: int
    faults: int
    riders: int
    live_max: int
    rate: float
    quiet_s: float
    even: bool = False
    only: str = ""
    keep: bool = False


class RunFailed(Exception):
    """The run itself could not be done; says nothing about the promises."""


def run(options: Options, form: str) -> int:
    """Runs, prints the report in the form (`table`, `json`, `markdown`) and gives the exit code.

    0: every promise was kept. 1: one was broken. 2: the run could not be done. 130: it was stopped.
    """
    try:
        report, verdict = in_folder(options)
    except asyncio.CancelledError:
        return 130
    except (RunFailed, StartupError) as error:
        _say(f"the run could not be done: {error}")
        return 2
    for line in broken(verdict).splitlines():
        _say(line)
    for name in verdict.not_checked:
        _say(f"NOT CHECKED {name}: the system has nothing of it")
    shown = {"json": json.dumps, "markdown": _row, "table": _table}[form]
    print(shown(report), flush=True)
    return 0 if verdict.kept else 1


def in_folder(options: Options) -> tuple[dict[str, Any], Verdict]:
    """The report and the verdict of a run in a folder of its own.

    The folder is removed unless a promise was broken, the run failed, or `keep`.
    """
    logging.basicConfig(level=logging.CRITICAL)  # that things die and come back is the plan
    data = Path(tempfile.mkdtemp(prefix="hexrun-chaos-"))
    data.chmod(0o755)  # PostgreSQL's user passes through it
    keep = True
    try:
        report, verdict = asyncio.run(_run(options, data))
        keep = options.keep or not verdict.kept
        if keep:
            report["data"] = str(data)
        return report, verdict
    except asyncio.CancelledError as error:
        keep = STOPPED not in error.args  # nobody has asked for it: look why
        raise
    finally:
        if keep:
            _hint(data)
        else:
            shutil.rmtree(data, ignore_errors=True)


def broken(verdict: Verdict) -> str:
    """The first SHOWN_MAX breakages, one a line."""
    lines = [f"BROKEN {b.promise}: {b.subject}: {b.what}" for b in verdict.broken]
    more = len(lines) - SHOWN_MAX
    return "\n".join(lines[:SHOWN_MAX] + ([f"... and {more} more"] if more > 0 else []))


async def _run(options: Options, data: Path) -> tuple[dict[str, Any], Verdict]:
    began_s = time.monotonic()
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None

    def stop(number: signal.Signals) -> None:
        task.cancel(STOPPED)  # first: whoever reads this may be gone
        _say(f"stopped by {number.name}")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    told = {
        "seed": options.seed,
        "orders": options.orders,
        "riders": options.riders,
        "live_max": options.live_max,
        "rate": options.rate,
        "faults": options.faults,
        "even": options.even,
        "only": options.only,
        "quiet_s": options.quiet_s,
    }
    with DataFolder(data) as folder:
        plant = make_plant(folder, told, role_env={})
        supervisor = Supervisor(folder, plant.services, handle_signals=False)
        _say(f"seed {options.seed}: starting two of each role in {data}")
        try:
            await supervisor.start()
            up_s = time.monotonic() - began_s
            _say(f"up in {up_s:.0f} s; {options.orders} orders, {options.faults} faults")
            cpu = Cpu()
            cpu.look(_processes(supervisor), fresh=False)
            await _until_ended(supervisor, "load", cpu)
            evidence = await _gathered(plant, folder.path)
            restarts = {s.name: s.restarts for s in supervisor.status() if s.restarts}
        finally:
            await supervisor.stop()
    verdict = judge(evidence)
    report = _report(options, evidence, verdict)
    report["restarts"] = restarts
    report["cpu_s"] = cpu.used_s()
    report["up_s"] = round(up_s, 1)
    report["ran_s"] = round(time.monotonic() - began_s, 1)
    return report, verdict


async def _until_ended(supervisor: Supervisor, name: str, cpu: Cpu) -> None:
    while True:
        cpu.look(_processes(supervisor), fresh=True)
        states = {status.name: status.state for status in supervisor.status()}
        if states[name] == "ended":
            return
        for one in (name, "faults"):
            if states[one] == "failed":
                raise RunFailed(f"{one} failed; see logs/{one}.log")
        await asyncio.sleep(LOOK_S)


def _processes(supervisor: Supervisor) -> list[tuple[str, int | None]]:
    return [(status.name, status.pid) for status in supervisor.status()]


async def _gathered(plant: Plant, data: Path) -> Evidence:
    """The evidence once every event has its position, or too long has been waited for that.

    Timers of orders go on and may make an event at any moment, so it is looked at again.
    """
    ends_s = time.monotonic() + OUTBOX_LIMIT_S
    while True:
        await _until_empty(plant, ends_s)
        evidence = await gather(plant.postgres, data, plant.redis)
        if not evidence.outbox or time.monotonic() >= ends_s:
            return evidence


async def _until_empty(plant: Plant, ends_s: float) -> None:
    connection = await asyncpg.connect(plant.postgres)
    try:
        while await connection.fetchval("SELECT count(*) FROM outbox"):
            if time.monotonic() >= ends_s:
                return
            await asyncio.sleep(LOOK_S)
    finally:
        await connection.close()


def _report(options: Options, evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    faults = [line for line in evidence.told("fault")]
    placing_s, lived_s = _lasted(evidence)
    states = Counter(row["state"] for row in evidence.orders if row["tenant"] == "chaos")
    live = ("scheduled", "open", "assigned", "under_way", "done")
    acked = {line["order"] for line in evidence.told("order")}
    return {
        "seed": options.seed,
        "orders_asked": options.orders,
        "orders": len(acked),
        "faults": sum(not line["done"].startswith("not done") for line in faults),
        "faults_not_done": sum(line["done"].startswith("not done") for line in faults),
        "fault_kinds": len({line["kind"] for line in faults}),
        **verdict.counts,
        "not_checked": verdict.not_checked,
        "orders_completed": states["completed"],
        "orders_expired": states["expired"],
        "orders_unfinished": sum(states[state] for state in live),
        "orders_refused": sum(1 for _ in evidence.told("order_refused")),
        "actions": sum(1 for _ in evidence.told("action")),
        "fixes": sum(1 for _ in evidence.told("fix")),
        "events": len(evidence.events),
        "dispatchers": len(evidence.runs),
        "hall_orders": len({x["order"] for x in evidence.told("order") if x["matching"] == "hall"}),
        "payments": sum(1 for _ in evidence.told("payment")),
        "webhooks": sum(line["answer"] == 200 for line in evidence.told("receipt")),
        "steady_per_s": _steady(evidence),
        "quiet_after_s": round(lived_s - placing_s, 1),
        "recovery_s": recovery(evidence.logs),
    }


def _lasted(evidence: Evidence) -> tuple[float, float]:
    """Seconds from the first order to the last one placed, and to the end of all."""
    begins = next(line["ms"] for line in evidence.told("load_begins"))
    placed = next(line["ms"] for line in evidence.told("orders_placed"))
    ended = max((line["ms"] for line in evidence.told("order_ended")), default=placed)
    return (placed - begins) / 1000, (max(ended, placed) - begins) / 1000


def _steady(evidence: Evidence) -> float | None:
    """Orders that ended a second, from the first fifth of them to the last one."""
    ends = sorted(line["ms"] for line in evidence.told("order_ended"))
    middle = ends[len(ends) // 5 : len(ends) * 4 // 5]
    if len(middle) < 2 or middle[0] == middle[-1]:
        return None
    return round(1000 * (len(middle) - 1) / (middle[-1] - middle[0]), 1)


def _row(report: dict[str, Any]) -> str:
    """For the table of docs/reliability.md."""
    promises = [report[name] for name in PROMISES]
    cells = (
        f"seed {report['seed']}",
        f"{report['orders']:,}",
        f"{report['faults']:,}",
        f"{report['actions']:,}",
        f"{report['fixes']:,}",
        f"{report['webhooks']:,}",
        str(sum(count or 0 for count in promises)),
        str(report["orders_unfinished"]),
        str(report["steady_per_s"]),
        f"{report['ran_s']:,.0f} s",
    )
    return f"| {' | '.join(cells)} |"


def _table(report: dict[str, Any]) -> str:
    lines = [
        f"{name:<22}{'not checked' if value is None else value}"
        for name, value in report.items()
        if not isinstance(value, (dict, list))
    ]
    lines.append(f"\n{'seconds to recover':<26}{'faults':>8}{'median':>8}{'max':>8}")
    for kind, f in report["recovery_s"].items():
        lines.append(f"{kind:<26}{f['faults']:>8}{f['median'] or '-':>8}{f['max'] or '-':>8}")
    return "\n".join(lines)


def _hint(data: Path) -> None:
    _say(f"everything is kept in {data}: told/*.jsonl (what clients and faults say), logs/,")
    _say(f"segments/, journal/; the database: python -m api.supervisor {data}")


def _say(text: str) -> None:
    print(f"hexrun: {text}", file=sys.stderr, flush=True)
