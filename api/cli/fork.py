"""`hexrun sim fork`: another policy from one recorded moment on, and why it does otherwise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn
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
from sim.habits import FEW, HabitBook, Habits
from sim.policies import read_policy
from sim.recorded import Moment, Recorded
from sim.report import to_json_line
from sim.resume import Where
from sim.scenario import TravelKnobs

SEEN_MS = 600_000
"""Who has sent no fix for so long is where he reported last, or where his shift began."""
SILENT_MS, GAP_MS = 10_000, 60_000
"""With live orders and no record for so long the state is old, or not known at all."""


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
    if result is None:
        nothing = {"at_ms": setting.moment.at_ms, "seeds": [], "interrupted": True}
        say(to_json_line(nothing) if as_json else "interrupted: 0 seeds were done")
        return INTERRUPTED
    stopped = len(result.seeds) < replicas
    if as_json:
        mark = {"interrupted": True} if stopped else {}
        say(to_json_line(_facts(result, setting, other) | mark))
    else:
        began = shown(setting.moment.at_ms, zone)
        title = f"{folder} from {began}, {len(result.seeds)} seeds from {seed}"
        _show(title, result, setting, other, zone)
        if stopped:
            say(f"interrupted: {len(result.seeds)} seeds were done")
    return INTERRUPTED if stopped else 0


def read_setting(
    folder: Path, at: str, until: str | None, city: str | None, zone: ZoneInfo
) -> Setting:
    """The city at the first round from `at` on, in one pass over its journals.

    Raises what `Recording` raises, and InvalidValue for times that were not recorded.
    """
    recording = Recording(folder, city)
    at_ms, since = _round_from(recording, at, zone)
    start = _start(since)
    tick_ms, where = start.policy.tick_ms, _where(start.city)
    until_ms = None if until is None else instant("until", until, zone, at_ms)
    recorded = Recorded(at_ms=at_ms, offer_ms=start.policy.offer_ms)
    book = HabitBook(where.plane, where.travel.build(), start.policy.offer_ms)
    heard = _listen(recording, since, start.policy, recorded, book)
    end_ms = max(heard.last_ms.values())
    if at_ms >= end_ms:
        last_round_ms = (end_ms - 1) // tick_ms * tick_ms
        span = f"from {shown(recording.begun_ms, zone)} to {shown(last_round_ms, zone)}"
        raise InvalidValue("at", at, f"a time within the recording, {span} ({zone.key})")
    if until_ms is not None and not at_ms < until_ms <= end_ms:
        span = f"later than {shown(at_ms, zone)} and up to {shown(end_ms, zone)}, the last record"
        raise InvalidValue("until", until, span)
    habits = book.result()
    moment = recorded.moment(habits.service_max, until_ms)
    if at_ms > heard.last_ms[since]:  # while nothing was written, up to the next journal
        next_ms = started_ms(recording.paths[recording.paths.index(since) + 1])
        if next_ms - heard.last_ms[since] > 2 * tick_ms:
            _refuse_gap(at, heard.last_ms[since], next_ms, zone)
    if moment.orders:
        _tell_silence(at, heard.before_ms, at_ms, zone)
    if habits.defaults:
        named = (f"{name} ({count} cases)" for name, count in habits.defaults.items())
        _note(f"a scenario's defaults, for fewer than {FEW} cases recorded: {', '.join(named)}")
    return Setting(moment=moment, habits=habits, where=where, policy=start.policy)


def _round_from(recording: Recording, at: str, zone: ZoneInfo) -> tuple[int, Path]:
    """The first round from `at` on, and the journal that was being written then."""
    begun_ms = recording.begun_ms
    at_ms = instant("at", at, zone, begun_ms)
    if at_ms // 1000 == begun_ms // 1000:
        at_ms = max(at_ms, begun_ms)  # the second in which it began, as it is shown
    if at_ms < begun_ms:
        raise InvalidValue("at", at, f"{shown(begun_ms, zone)} or later: the journals begin then")
    tick_ms = _start(recording.before(at_ms)).policy.tick_ms
    at_ms = -(-at_ms // tick_ms) * tick_ms
    return at_ms, recording.before(at_ms)


@dataclass(slots=True)
class _Heard:
    """The last instant of each journal, and the last one up to the moment."""

    last_ms: dict[Path, int]
    before_ms: int


def _listen(
    recording: Recording, since: Path, policy: Policy, recorded: Recorded, book: HabitBook
) -> _Heard:
    """Takes the whole recording in, from the journal `since` on."""
    at_ms = recorded.at_ms
    heard = _Heard({path: started_ms(path) for path in recording.paths}, started_ms(since))
    with bytes_bar("read the journals") as (progress, task):

        def told(done: int, size: int) -> None:
            progress.update(task, completed=done, total=size)

        for path, value in recording.read(since, at_ms - SEEN_MS, at_ms, told):
            when_ms = _hear(value, recorded, book, started_ms(path))
            heard.last_ms[path] = max(heard.last_ms[path], when_ms)
            if isinstance(value, Seen):
                when_ms = value.at_ms
            if when_ms <= at_ms:
                heard.before_ms = max(heard.before_ms, when_ms)
            if isinstance(value, Start) and value.policy != policy:
                _note(f"{path.name} goes on with another policy")
    for name in recording.torn:
        _note(f"{name} ends in the middle of a record")
    return heard


def _tell_silence(at: str, from_ms: int, at_ms: int, zone: ZoneInfo) -> None:
    if at_ms - from_ms > GAP_MS:
        _refuse_gap(at, from_ms, at_ms, zone)
    if at_ms - from_ms > SILENT_MS:
        _note(f"nothing was recorded after {shown(from_ms, zone)}: the state is that of then")


def _refuse_gap(at: str, from_ms: int, to_ms: int, zone: ZoneInfo) -> NoReturn:
    gap = f"from {shown(from_ms, zone)} to {shown(to_ms, zone)}"
    raise InvalidValue("at", at, f"a time that was recorded: nothing is {gap}")


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
            "defaults": sorted(habits.defaults),
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
