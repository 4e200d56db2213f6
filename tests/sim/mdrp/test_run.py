"""A day keeps every rule, looks nowhere ahead, and comes out the same each time."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

import sim.mdrp.run as run_module
from geo.errors import InvalidValue
from sim.mdrp.policy import mdrp_policy
from sim.mdrp.run import MdrpResult, run_day, write_solution

NAMES = (
    "solution_info_assignments.txt",
    "solution_info_orders.txt",
    "solution_info_couriers.txt",
)
MINUTE_MS = 60_000


@pytest.fixture(scope="module")
def result(day: Path) -> MdrpResult:
    return run_day(day, stopwatch=time.perf_counter)


def test_the_strict_checker_finds_nothing(
    day: Path, result: MdrpResult, checker: ModuleType, tmp_path: Path
) -> None:
    write_solution(result, tmp_path)
    assert checker.check(day, tmp_path) == []
    assert result.metrics["refused_plans"] == 0
    assert result.violations == ()
    assert result.metrics["variations"] == ["assignment updates"]
    assert result.metrics["undelivered_share"] < 0.15


def test_a_small_day_has_what_the_rules_are_about(small_day: Path) -> None:
    """Otherwise a checker that finds nothing says nothing."""
    result = run_day(small_day)
    solution = result.solution
    left = {(m.courier, m.destination): m.leave_ms for m in solution.moves}
    shop = {o.id: o.restaurant for o in result.instance.orders}
    grown = [d for d in solution.deliveries if d.told_ms > left[d.courier, shop[d.order]]]
    off = {c.id: c.off_min * MINUTE_MS for c in result.instance.couriers}
    assert any(len(b.orders) > 1 for b in solution.bundles)
    assert grown
    placed = {o.id: o.placed_min * MINUTE_MS for o in result.instance.orders}
    assert any(d.told_ms == placed[d.order] for d in solution.deliveries)
    assert any(d.dropoff_ms > off[d.courier] for d in solution.deliveries)
    assert result.metrics["undelivered"] > 0


@pytest.mark.parametrize("seed", range(2, 8))
def test_generated_days_keep_the_rules(
    seed: int, write_day: Callable[..., Path], checker: ModuleType, tmp_path: Path
) -> None:
    services = [(4, 4), (0, 2), (6, 0), (3, 5)][seed % 4]
    day = write_day(tmp_path / "day", seed=seed, couriers=4 + 3 * seed, services=services)
    result = run_day(day)
    write_solution(result, tmp_path / "out")
    assert checker.check(day, tmp_path / "out") == []
    assert result.metrics["refused_plans"] == 0


def test_the_same_day_twice_gives_the_same_files(
    day: Path, result: MdrpResult, tmp_path: Path
) -> None:
    write_solution(result, tmp_path / "a")
    write_solution(run_day(day), tmp_path / "b")
    for name in NAMES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def _until(result: MdrpResult, minute: int) -> tuple[set, set, set]:
    """Everything that was decided or done up to a minute."""
    end, solution = minute * MINUTE_MS, result.solution
    told = {(d.order, d.courier, d.told_ms) for d in solution.deliveries if d.told_ms <= end}
    moves = {m for m in solution.moves if m.leave_ms <= end}
    return told, moves, {b for b in solution.bundles if b.pickup_ms <= end}


def test_what_comes_later_changes_nothing_earlier(
    day: Path, result: MdrpResult, tmp_path: Path
) -> None:
    placed = sorted(o.placed_min for o in result.instance.orders)
    lines = (day / "orders.txt").read_text().splitlines(keepends=True)
    column = lines[0].rstrip("\n").split("\t").index("placement_time")
    for k in range(1, 11):
        minute = placed[len(placed) * k // 11]
        cut = Path(shutil.copytree(day, tmp_path / str(k)))
        kept = [line for line in lines[1:] if int(line.split("\t")[column]) <= minute]
        (cut / "orders.txt").write_text("".join([lines[0], *kept]))
        assert 0 < len(kept) < len(lines) - 1
        before = _until(result, minute)
        assert before[0]
        assert _until(run_day(cut), minute) == before


def test_the_measures_are_those_of_the_files(day: Path, result: MdrpResult, tmp_path: Path) -> None:
    """Counted again, from the written files alone."""
    write_solution(result, tmp_path)
    rows = [line.split(" ") for line in (tmp_path / NAMES[1]).read_text().splitlines()[1:]]
    door = sorted(float(r[4]) - float(r[1]) for r in rows)
    pickup = [float(r[3]) - float(r[2]) for r in rows]
    metrics = result.metrics
    assert metrics["click_to_door_mean"] == pytest.approx(sum(door) / len(door))
    assert metrics["ready_to_pickup_mean"] == pytest.approx(sum(pickup) / len(pickup))
    rank = 0.9 * (len(door) - 1)
    low = door[int(rank)]
    p90 = low + (door[min(int(rank) + 1, len(door) - 1)] - low) * (rank - int(rank))
    assert metrics["click_to_door_p90"] == pytest.approx(p90)
    bundles = (tmp_path / NAMES[0]).read_text().splitlines()[1:]
    assert metrics["orders_per_bundle"] == pytest.approx(len(rows) / len(bundles))
    duty = {c.id: (c.off_min - c.on_min) / 60 for c in result.instance.couriers}
    pay = [max(10 * sum(r[5] == c for r in rows), 15 * hours) for c, hours in duty.items()]
    assert metrics["cost_per_order"] == pytest.approx(sum(pay) / len(rows))
    assert metrics["undelivered"] == metrics["orders"] - len(rows)
    assert 0 < metrics["courier_utilisation"] < 1.2
    assert metrics["round_ms_p95"] > 0
    assert json.loads(json.dumps(metrics)) == metrics


def test_a_plan_that_the_referee_refuses_is_counted_and_not_carried_out(
    small_day: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "check_plan", lambda *_: ["a rule"])
    result = run_day(small_day)
    assert result.metrics["refused_plans"] == result.metrics["rounds"] > 0
    assert result.metrics["undelivered_share"] == 1.0
    assert result.solution.moves == ()
    assert result.metrics["click_to_door_mean"] is None
    assert set(result.violations) == {"a rule"}


def test_progress_is_told_each_round(small_day: Path) -> None:
    seen: list[tuple[int, int, int]] = []
    result = run_day(small_day, progress=lambda *now: seen.append(now))
    assert len(seen) == result.metrics["rounds"]
    assert seen == sorted(seen)
    assert "round_ms_p95" not in result.metrics


@pytest.mark.parametrize(
    "knobs",
    [
        {"diversion": True},
        {"one_merchant_a_bundle": False},
        {"bundles_in_sequence": False},
        {"tick_ms": 2_000},
    ],
)
def test_a_policy_without_the_rules_is_refused(small_day: Path, knobs: dict) -> None:
    with pytest.raises(InvalidValue, match=next(iter(knobs))):
        run_day(small_day, replace(mdrp_policy(), **knobs))


def test_a_day_without_orders(small_day: Path, tmp_path: Path, checker: ModuleType) -> None:
    day = Path(shutil.copytree(small_day, tmp_path / "day"))
    header = (day / "orders.txt").read_text().splitlines()[0]
    (day / "orders.txt").write_text(header + "\n")
    result = run_day(day)
    write_solution(result, tmp_path / "out")
    assert checker.check(day, tmp_path / "out") == []
    assert (result.metrics["orders"], result.metrics["rounds"]) == (0, 0)
