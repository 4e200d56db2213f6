"""Logs as CSV or Parquet, whole or not at all; writes files.

A file is written beside its place under another name, and takes its place when all of it is on
the disk. Parquet needs polars, an extra of hexrun.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dispatch.snapshot import NEVER
from geo.errors import CannotWrite, InvalidValue, StartupError
from sim.logs.cells import CSV, PARQUET
from sim.logs.table import CourierLog, OrderLog

DRAFT = ".draft"


def write_log(log: OrderLog | CourierLog, path: Path) -> None:
    """Writes the log in our own format: instants in ms UTC, an empty cell where nothing is known.

    Raises InvalidValue for a name that is neither CSV nor Parquet, CannotWrite (a full disk, no
    such folder), StartupError for Parquet without polars.
    """
    columns = _order_columns(log) if isinstance(log, OrderLog) else _courier_columns(log)
    if path.suffix.lower() in PARQUET:
        _parquet(columns, path)
    elif path.suffix.lower() in CSV:
        _csv(columns, path)
    else:
        raise InvalidValue("file", str(path), f"a name that ends in {', '.join((*CSV, *PARQUET))}")


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write into, which is at `path` once it is whole; else nothing of it is left.

    Raises CannotWrite, naming the file and the reason, for whatever the disk refuses.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}{DRAFT}")
    try:
        try:
            with draft.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except BaseException:
            with suppress(OSError):
                draft.unlink()
            raise
    except OSError as error:
        raise CannotWrite(str(path), error.strerror or str(error)) from None


def whole_files(contents: Mapping[Path, bytes]) -> None:
    """Files that belong together: none takes its place before all of them are on the disk, in the
    order given. Raises as `whole_file`."""
    drafts = {path: path.with_name(f".{path.name}.{os.getpid()}{DRAFT}") for path in contents}
    path = next(iter(contents))
    try:
        try:
            for path, content in contents.items():
                with drafts[path].open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            for path, draft in drafts.items():
                draft.replace(path)
        except BaseException:
            for draft in drafts.values():
                with suppress(OSError):
                    draft.unlink()
            raise
    except OSError as error:
        raise CannotWrite(str(path), error.strerror or str(error)) from None


def _order_columns(log: OrderLog) -> dict[str, list[Any]]:
    return {
        "id": list(log.id),
        "placed_ms": log.placed_ms.tolist(),
        "job_type": list(log.job_type),
        "merchant": list(log.merchant),
        "pickup_lat": _degrees(log.pickup_lat),
        "pickup_lon": _degrees(log.pickup_lon),
        "door_lat": _degrees(log.door_lat),
        "door_lon": _degrees(log.door_lon),
        "ready_ms": _instants(log.ready_ms),
        "promise_ms": _instants(log.promise_ms),
        "load": log.load.tolist(),
        "zone": [log.zone] * len(log),
    }


def _courier_columns(log: CourierLog) -> dict[str, list[Any]]:
    return {
        "id": list(log.id),
        "vehicle": list(log.vehicle),
        "lat": _degrees(log.lat),
        "lon": _degrees(log.lon),
        "on_ms": log.on_ms.tolist(),
        "off_ms": log.off_ms.tolist(),
        "zone": [log.zone] * len(log),
    }


def _degrees(column: np.ndarray) -> list[float | None]:
    return [None if value != value else value for value in column.tolist()]


def _instants(column: np.ndarray) -> list[int | None]:
    return [None if value >= NEVER else value for value in column.tolist()]


def _csv(columns: dict[str, list[Any]], path: Path) -> None:
    with whole_file(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        text.detach()


def _parquet(columns: dict[str, list[Any]], path: Path) -> None:
    try:
        import polars
    except ImportError:
        raise StartupError(f"{path}: Parquet needs polars: pip install 'hexrun[logs]'") from None
    packed = io.BytesIO()
    polars.DataFrame(columns).write_parquet(packed)
    with whole_file(path) as file:
        file.write(packed.getbuffer())
