"""The checker can fail: one change to a good solution, one broken rule found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from sim.mdrp.run import run_day, write_solution

ASSIGNMENTS, ORDERS, COURIERS = (
    "solution_info_assignments.txt",
    "solution_info_orders.txt",
    "solution_info_couriers.txt",
)
Rows = dict[str, list[list[str]]]


@pytest.fixture(scope="module")
def good(small_day: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("good")
    write_solution(run_day(small_day), out)
    return out


def _add(row: list[str], column: int, change: int) -> None:
    row[column] = str(int(row[column]) + change)


def _bundle(rows: Rows) -> list[str]:
    return next(row for row in rows[ASSIGNMENTS][1:] if len(row) > 4)


def assign_twice(rows: Rows) -> None:
    rows[ASSIGNMENTS][1].append(rows[ASSIGNMENTS][2][3])


def assign_before_placement(rows: Rows) -> None:
    rows[ASSIGNMENTS][5][0] = "0"


def assign_after_pickup(rows: Rows) -> None:
    _add(rows[ASSIGNMENTS][5], 0, 1)


def mix_restaurants(rows: Rows) -> None:
    """An order goes over into a bundle of the same courier at another restaurant."""
    first = rows[ASSIGNMENTS][1]
    later = next(r for r in rows[ASSIGNMENTS][2:] if r[2] == first[2])
    first.append(later.pop())
    if len(later) == 3:
        rows[ASSIGNMENTS].remove(later)


def pick_up_late_in_one_file(rows: Rows) -> None:
    _add(rows[ORDERS][3], 3, 1)


def pick_up_at_once(rows: Rows) -> None:
    """Both files agree on a pickup the minute the order was placed: before ready, or service."""
    order = rows[ORDERS][4]
    bundle = next(r for r in rows[ASSIGNMENTS] if order[0] in r[3:])
    for name in bundle[3:]:
        row = next(r for r in rows[ORDERS] if r[0] == name)
        row[3] = order[1]
    bundle[0] = bundle[1] = order[1]


def drop_off_later(rows: Rows) -> None:
    _add(rows[ORDERS][2], 4, 1)


def swap_drop_offs(rows: Rows) -> None:
    bundle = _bundle(rows)
    bundle[3], bundle[4] = bundle[4], bundle[3]


def leave_early(rows: Rows) -> None:
    _add(rows[COURIERS][3], 1, -1)


def leave_the_restaurant_late(rows: Rows) -> None:
    _add(rows[COURIERS][2], 1, 1)


def leave_before_the_shift(rows: Rows) -> None:
    rows[COURIERS][1][1] = "-1"


def teleport(rows: Rows) -> None:
    rows[COURIERS][3][2] = rows[COURIERS][1][3]


def skip_a_move(rows: Rows) -> None:
    del rows[COURIERS][2]


def split_a_block(rows: Rows) -> None:
    rows[COURIERS].append(rows[COURIERS].pop(1))


def lose_a_delivery(rows: Rows) -> None:
    del rows[ORDERS][3]


def another_courier(rows: Rows) -> None:
    row = rows[ORDERS][3]
    row[5] = next(r[5] for r in rows[ORDERS][1:] if r[5] != row[5])


def wrong_ready_time(rows: Rows) -> None:
    _add(rows[ORDERS][3], 2, -1)


def unknown_order(rows: Rows) -> None:
    rows[ASSIGNMENTS][1][3] = "o9999"


def no_header(rows: Rows) -> None:
    del rows[ORDERS][0]


CHANGES: dict[Callable[[Rows], None], str] = {
    assign_twice: "is assigned twice",
    assign_before_placement: "is assigned before it is placed",
    assign_after_pickup: "is assigned after the pickup",
    mix_restaurants: "a bundle of two restaurants",
    pick_up_late_in_one_file: "the files disagree on its pickup",
    pick_up_at_once: "picked up before",
    drop_off_later: "not dropped off at arrival",
    swap_drop_offs: "its next stop is",
    leave_early: "is free at",
    leave_the_restaurant_late: "is free at",
    leave_before_the_shift: "is free at",
    teleport: "but is at",
    skip_a_move: "moves for",
    split_a_block: "not in one block",
    lose_a_delivery: "assigned but not dropped off",
    another_courier: "the files disagree on its pickup",
    wrong_ready_time: "other times than the instance's",
    unknown_order: "no order o9999",
    no_header: "does not begin with its header",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_one_change_is_found(
    change: Callable[[Rows], None],
    good: Path,
    small_day: Path,
    checker: ModuleType,
    tmp_path: Path,
) -> None:
    rows = {
        name: [line.split(" ") for line in (good / name).read_text().splitlines()]
        for name in (ASSIGNMENTS, ORDERS, COURIERS)
    }
    assert checker.check(small_day, good) == []
    change(rows)
    for name, lines in rows.items():
        (tmp_path / name).write_text("".join(" ".join(line) + "\n" for line in lines))
    found = checker.check(small_day, tmp_path)
    assert any(CHANGES[change] in problem for problem in found), found


def test_a_pickup_after_the_off_time_is_found(
    good: Path, small_day: Path, checker: ModuleType, tmp_path: Path
) -> None:
    """The solution stays as it is; the shift ends a minute before the last pickup."""
    day = tmp_path / "day"
    day.mkdir()
    for path in small_day.iterdir():
        (day / path.name).write_bytes(path.read_bytes())
    last = max((good / ASSIGNMENTS).read_text().splitlines()[1:], key=lambda r: int(r.split()[1]))
    pickup, courier = int(last.split()[1]), last.split()[2]
    rows = [line.split("\t") for line in (day / "couriers.txt").read_text().splitlines()]
    next(row for row in rows if row[0] == courier)[4] = str(pickup - 1)
    (day / "couriers.txt").write_text("".join("\t".join(row) + "\n" for row in rows))
    assert any("off time" in problem for problem in checker.check(day, good))


@pytest.mark.parametrize("name", [ASSIGNMENTS, ORDERS, COURIERS])
def test_a_missing_file_is_found(
    name: str, good: Path, small_day: Path, checker: ModuleType, tmp_path: Path
) -> None:
    for path in good.iterdir():
        if path.name != name:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    assert checker.check(small_day, tmp_path) == [f"{name} is missing"]
