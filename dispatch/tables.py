"""What the working columns are made of: tables that grow, doors by number, recent places.

May import numpy.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

FIRST_ROWS = 64


class Table:
    """Named columns that grow together by doubling; `size` rows are in use.

    `table["x"]` is a whole column. `table.cells["x"]` is the same memory number by number, at a
    third of an array's price; a column of several numbers a row is flat there. Growing replaces
    both, so nobody keeps one.
    """

    def __init__(self, **columns: tuple[npt.DTypeLike, object, tuple[int, ...]]) -> None:
        self.size = 0
        self._views: dict[str, npt.NDArray[Any]] | None = None
        self.cells: dict[str, Any] = {}
        self._fill = {name: value for name, (_, value, _) in columns.items()}
        self._columns: dict[str, npt.NDArray[Any]] = {}
        # Columns of one kind lie in one block, so that a snapshot copies few blocks.
        alike: dict[tuple[np.dtype[Any], tuple[int, ...]], list[str]] = {}
        for name, (dtype, _, shape) in columns.items():
            alike.setdefault((np.dtype(dtype), shape), []).append(name)
        self._blocks: list[tuple[tuple[str, ...], npt.NDArray[Any]]] = []
        for (dtype, shape), names in alike.items():
            self._add_block(tuple(names), np.empty((len(names), FIRST_ROWS, *shape), dtype), 0)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        return self._columns[name]

    def add(self, count: int = 1) -> int:
        """Takes `count` rows at the end and gives the first."""
        first = self.size
        self.size += count
        self._views = None
        if self.size > self._blocks[0][1].shape[1]:
            blocks, self._blocks = self._blocks, []
            for names, old in blocks:
                grown = np.empty((len(names), 2 * self.size, *old.shape[2:]), old.dtype)
                grown[:, : old.shape[1]] = old
                self._add_block(names, grown, old.shape[1])
        return first

    def widen(self, name: str, width: int) -> None:
        """Makes room for `width` entries a row in a column that alone has its kind."""
        at = next(i for i, (names, _) in enumerate(self._blocks) if names == (name,))
        _, old = self._blocks.pop(at)
        wide = np.full((1, old.shape[1], width), self._fill[name], old.dtype)
        wide[:, :, : old.shape[2]] = old
        self._add_block((name,), wide, old.shape[1])

    def copies(self) -> dict[str, npt.NDArray[Any]]:
        """The rows in use of every column, read-only and apart from what is written later."""
        found: dict[str, npt.NDArray[Any]] = {}
        for names, block in self._blocks:
            copy = block[:, : self.size].copy()
            copy.flags.writeable = False
            found.update(zip(names, copy, strict=True))
        return found

    def views(self) -> dict[str, npt.NDArray[Any]]:
        """The same without the copying: read-only, but what is written later is seen in them."""
        if self._views is None:
            self._views = {}
            for names, block in self._blocks:
                view = block[:, : self.size]
                view.flags.writeable = False
                self._views.update(zip(names, view, strict=True))
        return dict(self._views)

    def __getstate__(self) -> object:
        """For copies; `cells` and the columns come with the blocks."""
        return self.size, self._fill, self._blocks

    def __setstate__(self, state: Any) -> None:
        self.size, self._fill, blocks = state
        self.cells, self._columns, self._blocks = {}, {}, []
        for names, block in blocks:
            self._add_block(names, block, block.shape[1])

    def _add_block(self, names: tuple[str, ...], block: npt.NDArray[Any], filled: int) -> None:
        """Takes the block over; the rows from `filled` on are blank."""
        self._views = None
        self._blocks.append((names, block))
        for name, column in zip(names, block, strict=True):
            column[filled:] = self._fill[name]
            self._columns[name] = column
            self.cells[name] = memoryview(column.reshape(-1))


class Places:
    """Numbers for the merchants' doors of the rows in use; a door that no row has loses its own."""

    def __init__(self) -> None:
        self._number: dict[str, int] = {}
        self._rows: Counter[str] = Counter()
        self._of_row: dict[int, str] = {}
        self._free: list[int] = []

    def at(self, row: int, place_id: str) -> int:
        """The row is at this door from now on; gives the door's number, -1 for none ("")."""
        before = self._of_row.get(row, "")
        if place_id == before:
            return self._number[place_id] if place_id else -1
        if place_id:
            if place_id not in self._number:
                self._number[place_id] = self._free.pop() if self._free else len(self._number)
            self._rows[place_id] += 1
            self._of_row[row] = place_id
        else:
            del self._of_row[row]
        if before:
            self._rows[before] -= 1
            if not self._rows[before]:
                del self._rows[before]
                self._free.append(self._number.pop(before))
        return self._number.get(place_id, -1)


class Recent:
    """The latest `most` places in metres, oldest first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places = np.empty((2 * most, 2))
        self._end = 0

    def add(self, x: float, y: float) -> None:
        if self._end == len(self._places):
            self._places[: self._most] = self._places[self._most :]
            self._end = self._most
        self._places[self._end] = x, y
        self._end += 1

    def copy(self) -> npt.NDArray[np.float64]:
        """(n, 2), read-only."""
        return _frozen(self.view().copy())

    def view(self) -> npt.NDArray[np.float64]:
        """The same without the copying."""
        return _frozen(self._places[max(0, self._end - self._most) : self._end])


def _frozen(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    places.flags.writeable = False
    return places
