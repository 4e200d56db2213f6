from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from geo.errors import InvalidValue, MissingFile
from sim.mdrp.instance import read_instance

FILES = ("orders.txt", "restaurants.txt", "couriers.txt", "instance_parameters.txt")


@pytest.fixture
def folder(small_day: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_day, tmp_path / "copy"))


def _change(path: Path, line: int, column: str, value: str) -> None:
    rows = [row.split("\t") for row in path.read_text().splitlines()]
    rows[line - 1][rows[0].index(column)] = value
    path.write_text("\n".join("\t".join(row) for row in rows) + "\n")


def test_a_day_as_it_stands_in_the_files(folder: Path) -> None:
    day = read_instance(folder)
    first = (folder / "orders.txt").read_text().splitlines()[1].split("\t")
    order = day.orders[0]
    assert [order.id, str(int(order.x)), str(int(order.y))] == first[:3]
    assert [str(order.placed_min), order.restaurant, str(order.ready_min)] == first[3:]
    assert (len(day.orders), len(day.restaurants), len(day.couriers)) == (120, 6, 14)
    assert (day.metres_per_min, day.pickup_min, day.dropoff_min, day.target_min) == (320, 4, 4, 40)
    assert (day.pay_order, day.pay_hour, day.name) == (10, 15, "copy")


def test_windows_line_ends_and_blank_last_lines_do_not_matter(folder: Path) -> None:
    before = read_instance(folder)
    path = folder / "orders.txt"
    path.write_bytes(path.read_text().replace("\n", "\r\n").encode() + b"\r\n\r\n")
    assert read_instance(folder) == before


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(MissingFile, match=name):
        read_instance(folder)


def test_a_missing_folder_is_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        read_instance(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("orders.txt", "placement_time", "12:30"),
        ("orders.txt", "placement_time", "-1"),
        ("orders.txt", "placement_time", "99999"),
        ("orders.txt", "placement_time", "1_0"),
        ("orders.txt", "placement_time", ""),
        ("orders.txt", "x", "nan"),
        ("orders.txt", "x", "1e999"),
        ("orders.txt", "restaurant", "r999"),
        ("orders.txt", "order", "o 0"),
        ("orders.txt", "order", "0"),
        ("orders.txt", "order", "r1"),
        ("restaurants.txt", "y", "north"),
        ("couriers.txt", "off_time", "0"),
        ("couriers.txt", "on_time", "7.5"),
        ("instance_parameters.txt", "meters_per_minute", "0"),
        ("instance_parameters.txt", "pickup service minutes", "-4"),
        ("instance_parameters.txt", "guaranteed pay per hour", "inf"),
    ],
)
def test_a_wrong_cell_is_named_by_file_line_column_and_value(
    folder: Path, name: str, column: str, value: str
) -> None:
    _change(folder / name, 2, column, value)
    with pytest.raises(InvalidValue) as caught:
        read_instance(folder)
    for part in (name, "line 2", column, repr(value)):
        assert part in str(caught.value)


def test_an_id_that_stands_twice_is_named_where_it_comes_back(folder: Path) -> None:
    _change(folder / "couriers.txt", 7, "courier", "c0")
    with pytest.raises(InvalidValue, match=r"couriers.txt line 7 column courier: 'c0'"):
        read_instance(folder)


def test_food_that_is_ready_before_it_is_ordered_is_refused(folder: Path) -> None:
    _change(folder / "orders.txt", 3, "placement_time", "50")
    _change(folder / "orders.txt", 3, "ready_time", "49")
    with pytest.raises(InvalidValue, match=r"orders.txt line 3 column ready_time: '49'"):
        read_instance(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_column_is_named(folder: Path, name: str) -> None:
    rows = [line.split("\t") for line in (folder / name).read_text().splitlines()]
    gone = rows[0][1]
    (folder / name).write_text("".join("\t".join((r[0], *r[2:])) + "\n" for r in rows))
    with pytest.raises(InvalidValue, match=f"{name} line 1.*'{gone}'"):
        read_instance(folder)


def test_a_row_that_is_too_short_is_named(folder: Path) -> None:
    with (folder / "couriers.txt").open("a") as file:
        file.write("c99\t1\t2\n")
    with pytest.raises(InvalidValue, match=r"couriers.txt line 16"):
        read_instance(folder)


def test_an_empty_file_and_two_rows_of_parameters_are_refused(folder: Path) -> None:
    path = folder / "instance_parameters.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[1]]) + "\n")
    with pytest.raises(InvalidValue, match="one row"):
        read_instance(folder)
    path.write_text("")
    with pytest.raises(InvalidValue, match=r"instance_parameters.txt line 1"):
        read_instance(folder)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidValue, match="UTF-8"):
        read_instance(folder)
