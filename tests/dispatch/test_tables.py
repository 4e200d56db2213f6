"""Tables that grow, and the latest places."""

from copy import deepcopy

import numpy as np
import pytest

from dispatch.tables import Recent, Table


def test_a_table_grows_and_keeps_what_it_holds():
    """By its columns and number by number, which are the same memory."""
    table = Table(x=(np.float64, 0.0, ()), y=(np.float64, 7.0, ()), load=(np.int32, -1, (2,)))
    for i in range(500):
        row = table.add()
        assert row == i
        assert (table["x"][row], table.cells["y"][row]) == (0.0, 7.0)
        assert table["load"][row].tolist() == [-1, -1]
        table["x"][row], table["load"][row] = i, (i, -i)
        table.cells["y"][row] = 2 * i
    assert table.size == 500
    copies = table.copies()
    assert copies["x"].tolist() == list(range(500))
    assert copies["y"].tolist() == table["y"][:500].tolist() == [2 * i for i in range(500)]
    assert copies["load"][:, 1].tolist() == [-i for i in range(500)]
    assert [table.cells["load"][2 * 400 + d] for d in (0, 1)] == [400, -400]
    assert table.add(300) == 500
    assert table.size == 800
    assert set(table["x"][500:800]) == {0.0}
    assert set(table["y"][500:800]) == {7.0}


def test_a_widened_column_keeps_its_rows():
    table = Table(route=(np.int32, -1, (2,)), length=(np.int32, 0, ()))
    table.add(3)
    table["route"][1] = (5, 6)
    table.widen("route", 4)
    assert table.copies()["route"].tolist() == [[-1] * 4, [5, 6, -1, -1], [-1] * 4]
    table.cells["route"][4 * 2 + 1] = 9
    table.add(100)
    table.cells["route"][4 * 102 + 3] = 8
    route = table.copies()["route"]
    assert route[1:3].tolist() == [[5, 6, -1, -1], [-1, 9, -1, -1]]
    assert route[102].tolist() == [-1, -1, -1, 8]


def test_a_copy_is_apart_and_cannot_be_written():
    table = Table(x=(np.float64, 0.0, ()), y=(np.float64, 0.0, ()))
    table.add(2)
    copies = table.copies()
    table["x"][0] = 5
    table.cells["y"][1] = 6
    assert copies["x"].tolist() == copies["y"].tolist() == [0, 0]
    for copy in copies.values():
        assert copy.flags.c_contiguous
        with pytest.raises(ValueError, match="read-only"):
            copy[0] = 1


def test_a_view_shows_what_is_written_later_and_cannot_be_written():
    table = Table(x=(np.float64, 0.0, ()), route=(np.int32, -1, (2,)))
    for size in (2, 3, 200):
        table.add(size - table.size)
        views = table.views()
        table["x"][size - 1], table.cells["route"][2 * (size - 1) + 1] = 5, 6
        assert views["x"].tolist() == table.copies()["x"].tolist() == [0] * (size - 1) + [5]
        assert views["route"][-1].tolist() == [-1, 6]
        table["x"][size - 1] = 0
        for view in views.values():
            assert len(view) == size
            assert view.flags.c_contiguous
            with pytest.raises(ValueError, match="read-only"):
                view[0] = 1
    table.widen("route", 3)
    assert table.views()["route"].shape == (200, 3)


def test_a_deep_copy_is_another_table():
    table = Table(x=(np.float64, 0.0, ()), y=(np.float64, 0.0, ()))
    table.add(2)
    table.cells["y"][1] = 6
    other = deepcopy(table)
    other.cells["y"][1] = 7
    other["x"][0] = 8
    assert (table["x"][0], table["y"][1]) == (0, 6)
    assert (other.cells["x"][0], other["y"][1], other.add()) == (8, 7, 2)


@pytest.mark.parametrize("count", [0, 2, 3, 4, 6, 7, 50])
def test_only_the_latest_places_are_kept(count):
    recent = Recent(3)
    for i in range(count):
        recent.add(i, -i)
    latest = recent.copy()
    assert recent.view().tolist() == latest.tolist()
    assert latest.tolist() == [[i, -i] for i in range(max(0, count - 3), count)]
    recent.add(99, 99)
    assert 99 not in latest
