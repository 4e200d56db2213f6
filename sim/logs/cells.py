"""The cells of a CSV or Parquet file as text by column, some rows at a time; reads files.

Parquet needs polars, an extra of hexrun.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from geo.errors import InvalidValue, MissingFile, StartupError
from sim.logs.table import I8

ROWS = 50_000
"""So many rows at a time: the text of a file is never held whole."""
CSV = (".csv", ".tsv", ".txt")
PARQUET = (".parquet", ".pq")
_FIELD_MAX = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Rows of a file: `columns` by name as text, trimmed, "" where nothing stands.

    `row` says where each stands in the file. `ragged` are rows with another number of cells than
    the header, as (row, cells); they are not among the columns.
    """

    columns: dict[str, list[str]]
    row: I8
    ragged: tuple[tuple[int, int], ...] = ()


def header(path: Path, encoding: str = "utf-8-sig", delimiter: str = ",") -> list[str]:
    """The names of the columns. Raises as `cells`."""
    if path.suffix.lower() in PARQUET:
        return list(_polars(path).collect_schema().names())
    with _opened(path, encoding) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        return _header(path, _lines(path, reader, encoding))


def cells(
    path: Path, wanted: list[str], encoding: str = "utf-8-sig", delimiter: str = ","
) -> Iterator[Cells]:
    """The `wanted` columns, ROWS rows at a time.

    Raises MissingFile, InvalidValue for a file that is not what its name says, StartupError for
    Parquet without polars.
    """
    if path.suffix.lower() in PARQUET:
        yield from _parquet(path, wanted)
        return
    with _opened(path, encoding) as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        lines = _lines(path, reader, encoding)
        names = _header(path, lines)
        at = [names.index(name) for name in wanted]
        while True:
            columns: list[list[str]] = [[] for _ in wanted]
            numbers, ragged = [], []
            for line, row in islice(lines, ROWS):
                if len(row) != len(names):
                    if row:  # an empty line is nothing
                        ragged.append((line, len(row)))
                    continue
                numbers.append(line)
                for column, i in zip(columns, at, strict=True):
                    column.append(row[i].strip())
            if not numbers and not ragged:
                return
            read = dict(zip(wanted, columns, strict=True))
            yield Cells(read, np.array(numbers, np.int64), tuple(ragged))


def _opened(path: Path, encoding: str) -> Any:
    try:
        return path.open(encoding=encoding, newline="")
    except FileNotFoundError:
        raise MissingFile(str(path), "a log") from None
    except (OSError, LookupError) as error:
        raise InvalidValue(str(path), str(error), "a file that can be read") from None


def _lines(path: Path, reader: Any, encoding: str) -> Iterator[tuple[int, list[str]]]:
    """The rows with the line on which each ends."""
    csv.field_size_limit(_FIELD_MAX)
    try:
        for row in reader:
            yield reader.line_num, row
    except UnicodeDecodeError as error:
        where = f"{path} line {_undecodable(path, encoding)}"
        expected = f"{error.encoding} text (encoding in a mapping names another)"
        raise InvalidValue(where, f"byte {error.object[error.start]:#04x}", expected) from None
    except csv.Error as error:
        raise InvalidValue(f"{path} line {reader.line_num}", str(error), "CSV") from None


def _undecodable(path: Path, encoding: str) -> int:
    """The first line that is no text; the reader takes many at a time and cannot say."""
    decoder, good = codecs.getincrementaldecoder(encoding)(), 0
    with path.open("rb") as file, suppress(UnicodeDecodeError):
        for line in file:
            decoder.decode(line)
            good += 1
        return good  # a character that the end of the file cuts off
    return good + 1


def _header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, names = next(lines, (0, []))
    names = [name.strip() for name in names]
    if not any(names):
        raise InvalidValue(f"{path} line 1", names, "the names of the columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidValue(f"{path} line 1", twice, "every column once")
    return names


def _polars(path: Path) -> Any:
    try:
        import polars
    except ImportError:
        raise StartupError(f"{path}: Parquet needs polars: pip install 'hexrun[logs]'") from None
    if not path.is_file():
        raise MissingFile(str(path), "a log")
    try:
        frame = polars.scan_parquet(path)
        frame.collect_schema()
    except (OSError, polars.exceptions.PolarsError) as error:
        raise InvalidValue(str(path), str(error).splitlines()[0], "a Parquet file") from None
    return frame


def _parquet(path: Path, wanted: list[str]) -> Iterator[Cells]:
    import polars as pl

    frame = _polars(path)
    texts = [
        _text(pl, name, kind) for name, kind in frame.collect_schema().items() if name in wanted
    ]
    try:
        read = frame.select(texts).collect()
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InvalidValue(str(path), str(error).splitlines()[0], "a Parquet file") from None
    row = 1
    for part in read.iter_slices(ROWS):
        columns = {name: part[name].to_list() for name in wanted}
        yield Cells(columns, np.arange(row, row + len(part)))
        row += len(part)


def _text(pl: Any, name: str, kind: Any) -> Any:
    """A column as the text that a CSV file would have: instants in ISO 8601, UTC with a Z."""
    column = pl.col(name)
    if isinstance(kind, pl.Datetime):
        if kind.time_zone is None:
            column = column.dt.strftime("%Y-%m-%dT%H:%M:%S%.6f")
        else:
            column = column.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
    elif kind == pl.Time:
        column = column.dt.strftime("%H:%M:%S")
    return column.cast(pl.String).str.strip_chars().fill_null("")
