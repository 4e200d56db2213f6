"""`hexrun sim fork`: another policy from one recorded moment on, and why it does otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

from api.cli.instants import instant, shown, zone_of
from api.cli.interrupt import INTERRUPTED, stoppable
from api.cli.output import say, say_table
from api.cli.progress import bar
from api.cli.replay import bytes_bar
from api.clock import monotonic_s
from api.journal import CityShape, PlanMade, Start, read_journal, started_ms
from api.recording import Recording, Seen, Told
from dispatch.dispatcher import Known
from dispatch.events import Event, RiderEvent
from dispatch.policy import Policy
from geo.errors import InvalidValue
from sim.causes import PARTS
from sim.fork import Branch, Estimate, ForkResult, fork
from sim.habits import HabitBook, Habits
from sim.policies import read_policy
from sim.recorded import Moment, Recorded
from sim.report import to_json_line
from sim.resume import Where
from sim.scenario import TravelKnobs

SEEN_MS = 600_000
"""Who has sent no fix for so long is where he reported last, or where his shift began."""
GAP_MS = 60_000
"""After so long without any record, what happened is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a fork goes on from."""

    moment: Moment
    habits: Habits
    where: Where
    policy: Policy

    def branch(self, policy: Policy) -> Branch:
        """That policy from the moment on."""
        return Branch(self.moment, self.where, self.habits, policy)


def run_fork(
    folder: Path,
    *,
    at: str,
    policy: Path,
    until: str | None,
    city: str | None,
    zone_name: str,
    seed: int,
    replicas: int,
    as_json: bool,
) -> int:
    """Runs both policies from `at` on and prints the difference with its causes.

    The exit code: 0, or 130 when Ctrl-C has ended it; then the seeds that were done are shown.
    """
    zone = zone_of(zone_name)
    setting = read_setting(folder, at, until, city, zone)
    other = read_policy(policy, setting.policy)
    seeds = range(seed, seed + replicas)
    with bar("fork", 2 * replicas, "runs") as (progress, task), stoppable() as stop:
        result = fork(
            setting.branch(setting.policy),
            setting.branch(other),
            setting.moment,
            seeds,
            stopwatch=monotonic_s,
            progress=lambda runs: progress.update(task, completed=runs),
            stop=stop,
        )
    if as_json:
        say(to_json_line(_facts(result, setting, other)))
    else:
        began = shown(setting.moment.at_ms, zone)
        title = f"{folder} from {began}, {len(result.seeds)} seeds from {seed}"
        _show(title, result, setting, other, zone)
    return INTERRUPTED if len(result.seeds) < replicas else 0


def read_setting(
    folder: Path, at: str, until: str | None, city: str | None, zone: ZoneInfo
) -> Setting:
    """The city at the first round from `at` on, in one pass over its journals.

    Raises what `Recording` raises, and InvalidValue for times that were not recorded.
    """
    recording = Recording(folder, city)
    at_ms = instant("at", at, zone, recording.begun_ms)
    since = recording.before(at_ms)
    start = _start(since)
    at_ms = -(-at_ms // start.policy.tick_ms) * start.policy.tick_ms
    until_ms = None if until is None else instant("until", until, zone, at_ms)
    if until_ms is not None and until_ms <= at_ms:
        raise InvalidValue("until", shown(until_ms, zone), f"later than {shown(at_ms, zone)}")
    where = _where(start.city)
    recorded = Recorded(at_ms=at_ms, offer_ms=start.policy.offer_ms)
    book = HabitBook(where.plane, where.travel.build(), start.policy.offer_ms)
    last_ms = {path: started_ms(path) for path in recording.paths}
    with bytes_bar("read the journals") as (progress, task):

        def told(done: int, size: int) -> None:
            progress.update(task, completed=done, total=size)

        for path, value in recording.read(since, at_ms - SEEN_MS, at_ms, told):
            heard_ms = _hear(value, recorded, book, started_ms(path))
            last_ms[path] = max(last_ms[path], heard_ms)
            if isinstance(value, Start) and value.policy != start.policy:
                _note(f"{path.name} goes on with another policy")
    for name in recording.torn:
        _note(f"{name} ends in the middle of a record")
    begun_ms, end_ms = recording.begun_ms, max(last_ms.values())
    if at_ms >= end_ms:
        span = f"from {shown(begun_ms, zone)} to {shown(end_ms, zone)} ({zone.key})"
        raise InvalidValue("at", shown(at_ms, zone), f"a time within the recording, {span}")
    if at_ms - last_ms[since] > GAP_MS:
        expected = f"a time that was recorded: nothing is after {shown(last_ms[since], zone)}"
        raise InvalidValue("at", shown(at_ms, zone), expected)
    habits = book.result()
    moment = recorded.moment(habits.service_max, until_ms)
    return Setting(moment=moment, habits=habits, where=where, policy=start.policy)


def _hear(value: Told, recorded: Recorded, book: HabitBook, begun_ms: int) -> int:
    """Takes one value in; gives when it was, as far as it says so."""
    if isinstance(value, Known):
        recorded.known(value, begun_ms)
        book.known(value)
    elif isinstance(value, Event | RiderEvent):
        recorded.event(value)
        book.event(value)
        return value.at_ms
    elif isinstance(value, Seen):
        recorded.saw(value.rider_id, value.lat, value.lon, value.at_ms)
        book.saw(value.rider_id, value.at_ms)
    elif isinstance(value, PlanMade):
        book.round(value.ms)
        return value.at_ms
    return 0


def _note(text: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"hexrun: {text}")


def _start(path: Path) -> Start:
    first = next(iter(read_journal(path)), None)
    if not isinstance(first, Start):
        raise InvalidValue("at", path.name, "a time in a journal that is not empty")
    return first


def _where(city: CityShape) -> Where:
    detour = city.detour if city.travel == "straight_line" else None
    travel = TravelKnobs(model=city.travel, detour=detour)
    return Where(name=city.name, lat=city.lat, lon=city.lon, travel=travel)


# --- out --------------------------------------------------------------------------------------


def _facts(result: ForkResult, setting: Setting, now: Policy) -> dict[str, Any]:
    moment, habits = setting.moment, setting.habits
    return {
        "at_ms": moment.at_ms,
        "until_ms": moment.until_ms,
        "recorded_until_ms": moment.end_ms,
        "seeds": list(result.seeds),
        "orders": result.orders,
        "orders_in_hall_left_out": moment.hall,
        "policy_was": asdict(setting.policy),
        "policy_now": asdict(now),
        "kpis": {
            name: {"was": _bare(a), "now": _bare(b), "difference": _bare(d)}
            for name, (a, b, d) in result.figures.items()
        },
        "click_to_door_difference_min": None if result.total is None else _bare(result.total),
        "causes_min": {name: _bare(cause) for name, cause in result.causes.items()},
        "orders_changed": result.changed,
        "orders_that_add_most": [asdict(effect) for effect in result.effects],
        "recorded_and_as_it_was": {
            name: {"recorded": told, "was": _bare(was)} for name, (told, was) in result.near.items()
        },
        "habits": {
            "riders": {name: getattr(habits.riders, name) for name in _HABITS},
            "ride_factor": habits.ride_factor,
            "decide_ms": habits.decide_ms,
            "write_ms": habits.write_ms,
            "samples": habits.samples,
        },
        "violations": list(result.violations),
    }


_HABITS = (
    "accept_share", "ignore_share", "answer_s", "fix_s", "service_factor", "service_spread",
)  # fmt: skip


def _bare(value: Estimate) -> dict[str, float | None]:
    return {"mean": value.mean, "low": value.low, "high": value.high}


def _show(title: str, result: ForkResult, setting: Setting, now: Policy, zone: ZoneInfo) -> None:
    moment, was, then = setting.moment, asdict(setting.policy), asdict(now)
    say(f"{title}: {result.orders} orders until {shown(moment.until_ms, zone)}")
    otherwise = [f"{name} {was[name]} -> {then[name]}" for name in was if was[name] != then[name]]
    say("policy: " + (", ".join(otherwise) or "the same"))
    figures = _table("figures", "figure", "as it was", "now", "difference", "95 %")
    for name, (a, b, d) in result.figures.items():
        figures.add_row(name.replace("_", " "), _n(a.mean), _n(b.mean), _n(d.mean, True), _range(d))
    say_table(figures, *_why(result))
    near = _table(
        f"the simulator beside the recording, up to {shown(moment.end_ms, zone)}",
        "figure", "recorded", "simulated", "95 % of runs",
    )  # fmt: skip
    for name, (told, simulated) in result.near.items():
        recorded = "-" if told is None else _n(told)
        span = _range(simulated, signed=False)
        near.add_row(name.replace("_", " "), recorded, _n(simulated.mean), span)
    say_table(near)
    if moment.hall:
        say(f"{moment.hall} orders that riders grab from the hall are left out")
    for violation in result.violations:
        say(f"a plan was refused: {violation}")


def _why(result: ForkResult) -> list[Table]:
    """The causes, the orders that changed, and those that add most."""
    causes = _table("from click to door, minutes an order", "cause", "adds", "95 %", "what")
    for name, cause in result.causes.items():
        if cause.mean or name in PARTS:
            what = PARTS.get(name, _ONLY.get(name.partition("_")[0], ""))
            causes.add_row(name.replace("_", " "), _n(cause.mean, True), _range(cause), what)
    if result.total is not None:
        causes.add_section()
        causes.add_row("together", _n(result.total.mean, True), _range(result.total), "")
    changed = _table("orders that changed, a seed", "what", "orders")
    for name, count in result.changed.items():
        changed.add_row(name.replace("_", " "), _n(count))
    most = _table("who adds most", "order", "was min", "now min", "adds", "most by", "rider")
    most.columns[0].no_wrap = True
    for one in result.effects:
        rider = " -> ".join(dict.fromkeys(r or "nobody" for r in one.riders))
        door = ["-" if m is None else _n(m) for m in (one.was_min, one.now_min)]
        by = one.most.replace("_", " ")
        most.add_row(one.order_id, *door, f"{one.adds_min:+.4f}", by, rider)
    return [causes, changed, *([most] if result.effects else [])]


_ONLY = {
    "lost": "delivered as it was, not now: how it ended instead",
    "won": "delivered now, not as it was: how it had ended",
    "other": "no order was delivered by both",
}


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i == 0 or name == "what" else "right")
    return table


def _n(value: float, signed: bool = False) -> str:
    if value == int(value) and abs(value) < 1e9:
        return f"{int(value):+,}" if signed and value else f"{int(value):,}"
    return f"{value:+,.3f}" if signed else f"{value:,.3f}"


def _range(value: Estimate, signed: bool = True) -> str:
    if value.low is None or value.high is None:
        return "-"
    return f"{_n(value.low, signed)} to {_n(value.high, signed)}"
