"""A snapshot as one flat block of bytes, for shared memory; may import numpy, msgspec and dispatch.

Layout: 8 bytes little-endian length of the head, the head (msgpack: scalars, ids and the place of
each column), then the columns, each aligned to 8 bytes.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import msgspec
import numpy as np

from dispatch.snapshot import Orders, Riders, Snapshot, Stops
from geo.travel import TravelLaw

_ALIGN = 8
_TABLES: dict[str, type] = {"stops": Stops, "orders": Orders, "riders": Riders}
_LOOSE = ("declined", "recent")


def _columns(snapshot: Snapshot) -> dict[str, np.ndarray]:
    """Every array of the snapshot by `table.column`."""
    found = {name: getattr(snapshot, name) for name in _LOOSE}
    for table, kind in _TABLES.items():
        for field in fields(kind):
            if field.name != "id":
                found[f"{table}.{field.name}"] = getattr(getattr(snapshot, table), field.name)
    return found


class Packed:
    """A snapshot ready to be copied: its `size` in bytes is known before the copy."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._arrays = {k: np.ascontiguousarray(v) for k, v in _columns(snapshot).items()}
        offset = 0
        places = {}
        for name, array in self._arrays.items():
            places[name] = (array.dtype.str, array.shape, offset)
            offset += -(-array.nbytes // _ALIGN) * _ALIGN
        law = snapshot.law
        head = {
            "at_ms": snapshot.at_ms,
            "law": (law.metric, law.detour, law.quantum_ms),
            "order_ids": snapshot.orders.id,
            "rider_ids": snapshot.riders.id,
            "columns": places,
        }
        self._head = msgspec.msgpack.encode(head)
        self._start = -(-(8 + len(self._head)) // _ALIGN) * _ALIGN
        self._places = places
        self.size = self._start + offset

    def write_to(self, block: memoryview) -> None:
        """Copies into the first `size` bytes of the block."""
        block[:8] = len(self._head).to_bytes(8, "little")
        block[8 : 8 + len(self._head)] = self._head
        for name, array in self._arrays.items():
            at = self._start + self._places[name][2]
            block[at : at + array.nbytes] = array.tobytes()


def unpack_snapshot(block: memoryview) -> Snapshot:
    """The snapshot in a block; its columns are read-only views on the block, not copies."""
    length = int.from_bytes(block[:8], "little")
    head: dict[str, Any] = msgspec.msgpack.decode(block[8 : 8 + length])
    start = -(-(8 + length) // _ALIGN) * _ALIGN
    arrays: dict[str, np.ndarray] = {}
    for name, (dtype, shape, offset) in head["columns"].items():
        count = int(np.prod(shape))
        view = np.frombuffer(block, dtype, count, start + offset).reshape(shape)
        view.flags.writeable = False
        arrays[name] = view
    tables: dict[str, Any] = {}
    for table, kind in _TABLES.items():
        columns: dict[str, Any] = {
            f.name: arrays[f"{table}.{f.name}"] for f in fields(kind) if f.name != "id"
        }
        if table != "stops":
            columns["id"] = tuple(head["order_ids" if table == "orders" else "rider_ids"])
        tables[table] = kind(**columns)
    return Snapshot(
        at_ms=head["at_ms"],
        law=TravelLaw(*head["law"]),
        declined=arrays["declined"],
        recent=arrays["recent"],
        **tables,
    )
