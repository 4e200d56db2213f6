"""What is bad in a log of orders is told by row, and dropped or refused as asked."""

import dataclasses
import tracemalloc

import pytest

from dispatch.snapshot import NEVER
from geo.datum import System, from_wgs84
from geo.errors import InvalidValue, MissingFile
from sim.logs import cells
from sim.logs.mapping import ORDERS, Area, parse_mapping
from sim.logs.reading import read_log
from sim.logs.report import SHOWN, Bad, BadLog, Kind
from sim.logs.writing import write_log

START_MS = 1_780_282_800_000

# What is done to row 7 of the file (order o5), and what the report says of it.
BAD = [
    ({"id": ""}, Kind.HOLE, "id", "", "a value"),
    ({"door_lat": " "}, Kind.HOLE, "door_lat", "", "a value"),
    ({"pickup_lon": "east"}, Kind.NOT_A_NUMBER, "pickup_lon", "east", "a number"),
    ({"pickup_lat": "nan"}, Kind.NOT_A_NUMBER, "pickup_lat", "nan", "a number"),
    ({"pickup_lat": "3_0"}, Kind.NOT_A_NUMBER, "pickup_lat", "3_0", "a number"),
    ({"placed_ms": "soon"}, Kind.NOT_A_TIME, "placed_ms", "soon", "milliseconds"),
    ({"promise_ms": "-4"}, Kind.NOT_A_TIME, "promise_ms", "-4", "milliseconds"),
    ({"load": "0"}, Kind.OUT_OF_RANGE, "load", "0", "a whole number above 0"),
    ({"load": "1.5"}, Kind.OUT_OF_RANGE, "load", "1.5", "a whole number above 0"),
    ({"job_type": "teleport"}, Kind.UNKNOWN_NAME, "job_type", "teleport", "delivery"),
    ({"zone": ""}, Kind.HOLE, "zone", "", "a value"),
    ({"zone": "Asia/Tokyo"}, Kind.ANOTHER_ZONE, "zone", "Asia/Tokyo", "Asia/Shanghai, the zone of"),
    ({"id": "o3"}, Kind.DUPLICATE_ID, "id", "o3", "row 5 has it"),
    (
        {"door_lat": "104.05", "door_lon": "30.66"},
        Kind.SWAPPED,
        "door_lat",
        "104.05, 30.66",
        "door_lon and door_lat are swapped",
    ),
    (
        {"pickup_lat": "39.9", "pickup_lon": "116.4"},
        Kind.OUTSIDE,
        "pickup_lat",
        "39.9, 116.4",
        "within 50 km of 30.6",
    ),
    ({"pickup_lat": "0", "pickup_lon": "0"}, Kind.OUTSIDE, "pickup_lat", "0.0, 0.0", "within"),
    (
        {"promise_ms": str(START_MS)},
        Kind.PROMISE_BEFORE_PLACEMENT,
        "promise_ms",
        "2026-06-01T03:00:00+00:00",
        "not before placed_ms, 2026-06-01T03:05:00+00:00",
    ),
    (
        {"placed_ms": str(START_MS + 500_000), "ready_ms": "", "promise_ms": ""},
        Kind.OUT_OF_ORDER,
        "placed_ms",
        "2026-06-01T03:08:20+00:00",
        "not before the rows above nor after those below",
    ),
]


@pytest.mark.parametrize(("changed", "kind", "column", "value", "expected"), BAD)
def test_a_bad_row_is_told_and_dropped(rows, write, changed, kind, column, value, expected):
    rows[5] |= changed
    path = write(rows)
    with pytest.raises(BadLog) as refused:
        read_log(path)
    (found,) = refused.value.report.first[kind]
    assert (found.row, found.column, found.value) == (7, column, value)
    assert expected in found.expected
    assert f"row 7, {column}: {value!r}" in str(refused.value)

    read = read_log(path, bad=Bad.DROP)
    assert dict(read.report.bad) == {kind: 1}
    assert (read.report.rows, read.report.kept, read.report.bad_rows) == (30, 29, 1)
    assert read.log.id == tuple(f"o{n}" for n in range(30) if n != 5)


def test_a_good_log_is_read_as_it_stands(rows, write):
    rows[3] |= {"ready_ms": "", "promise_ms": "", "merchant": ""}
    read = read_log(write(rows))
    log = read.log
    assert read.report.good
    assert (len(log), log.zone, log.merchant[3], log.merchant[4]) == (30, "Asia/Shanghai", "", "m4")
    assert (log.ready_ms[3], log.promise_ms[3]) == (NEVER, NEVER)
    assert log.placed_ms.tolist() == [START_MS + n * 60_000 for n in range(30)]
    assert log.pickup_lat[29] == float(rows[29]["pickup_lat"])
    assert log.load.tolist() == [1 + n % 2 for n in range(30)]


def test_ready_before_placement_is_mended(rows, write):
    rows[3]["ready_ms"] = str(START_MS)
    read = read_log(write(rows))
    assert read.log.ready_ms[3] == read.log.placed_ms[3]
    assert sum(read.report.mended.values()) == 1
    assert read.report.good


def test_a_row_of_other_cells_and_a_column_of_nobody(rows, write):
    for row in rows:
        row["weather"] = "rain"
    path = write(rows)
    path.write_text(path.read_text() + "o99,too,short\n\n")
    read = read_log(path, bad=Bad.DROP)
    assert dict(read.report.bad) == {Kind.UNKNOWN_COLUMN: 1, Kind.CELLS: 1}
    assert read.report.first[Kind.CELLS][0].row == 32
    assert read.report.first[Kind.CELLS][0].value == "3 cells"
    assert read.report.first[Kind.UNKNOWN_COLUMN][0].column == "weather"
    assert (read.report.rows, read.report.kept) == (31, 30)


def test_only_the_rows_that_must_go_are_out_of_order(rows, write):
    late = rows.pop(4)
    rows.insert(20, late)
    with pytest.raises(BadLog) as refused:
        read_log(write(rows))
    assert [f.row for f in refused.value.report.first[Kind.OUT_OF_ORDER]] == [22]
    sorted_ = dataclasses.replace(ORDERS, any_order=True)
    assert read_log(write(rows), sorted_).log.id == tuple(f"o{n}" for n in range(30))


def test_a_whole_file_swapped_is_seen_where_it_cannot_be_right(rows, write):
    for row in rows:
        for end in ("pickup", "door"):
            row[f"{end}_lat"], row[f"{end}_lon"] = row[f"{end}_lon"], row[f"{end}_lat"]
    with pytest.raises(BadLog) as refused:
        read_log(write(rows))
    assert refused.value.report.bad == {Kind.SWAPPED: 30}


def test_the_city_of_a_mapping_is_where_places_must_lie(rows, write):
    near = dataclasses.replace(ORDERS, city=Area(lat=30.65, lon=104.06, radius_m=1_500.0))
    with pytest.raises(BadLog) as refused:
        read_log(write(rows), near)
    assert refused.value.report.bad == {Kind.OUTSIDE: 28}
    assert "within 1.5 km of 30.6500, 104.0600" in str(refused.value)


def test_the_first_of_each_kind_are_shown_and_all_are_counted(rows, write):
    for row in rows:
        row["load"] = "none"
    with pytest.raises(BadLog) as refused:
        read_log(write(rows))
    report = refused.value.report
    assert (report.bad[Kind.NOT_A_NUMBER], len(report.first[Kind.NOT_A_NUMBER])) == (30, SHOWN)
    assert "not_a_number: 30, the first 20" in str(refused.value)
    with pytest.raises(InvalidValue, match="at least one good order"):
        read_log(write(rows), bad=Bad.DROP)


def test_pieces_of_a_file_are_one_log(rows, write, monkeypatch):
    rows[25]["id"] = "o3"
    path = write(rows)
    whole = read_log(path, bad=Bad.DROP)
    monkeypatch.setattr(cells, "ROWS", 7)
    pieces = read_log(path, bad=Bad.DROP)
    assert pieces.log.id == whole.log.id
    assert pieces.report.as_dict() == whole.report.as_dict()
    assert pieces.report.first[Kind.DUPLICATE_ID][0].row == 27


def test_the_text_of_a_file_is_not_held(rows, write, monkeypatch):
    """Notes of a kilobyte, which nothing reads, may not pile up."""
    for n, row in enumerate(rows):
        row["note"] = f"{n}" * 4_000
    path = write(rows * 40)
    how = dataclasses.replace(ORDERS, ignore=("note",), any_order=True)
    monkeypatch.setattr(cells, "ROWS", 50)
    tracemalloc.start()
    read_log(path, how, bad=Bad.DROP)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > 8_000_000
    assert peak < 3_000_000


MINE = """
zone: Asia/Shanghai
time: "%d/%m/%Y %H:%M"
system: gcj02
ignore: note
columns:
  id: order no
  placed: created
  pickup_lat: shop lat
  pickup_lon: shop lon
  door_lat: door lat
  door_lon: door lon
  ready_after_min: prep
  promise: due
  picked_up: left
  delivered: arrived
constants: {job_type: delivery, load: 2}
"""


def theirs(**changed):
    shop = from_wgs84(30.65, 104.06, System.GCJ02)
    door = from_wgs84(30.66, 104.07, System.GCJ02)
    row = {
        "order no": "7", "created": "01/06/2026 11:05", "prep": "12.5", "due": "01/06/2026 11:40",
        "shop lat": str(shop[0]), "shop lon": str(shop[1]), "door lat": str(door[0]),
        "door lon": str(door[1]), "left": "01/06/2026 11:20", "arrived": "01/06/2026 11:38",
        "note": "?",
    }  # fmt: skip
    return [row | changed]


def test_the_city_is_where_it_is_in_any_system(write):
    """GCJ-02 lies some 400 m beside; a shop in the middle of a small town is in it."""
    near = "city: {lat: 30.655, lon: 104.065, radius_m: 800}\n"
    assert len(mapped(write(theirs()), MINE + near).log) == 1
    with pytest.raises(BadLog, match="outside_the_city"):
        mapped(write(theirs()), MINE.replace("gcj02", "wgs84") + near)


def mapped(path, text=MINE, **kwargs):
    return read_log(path, parse_mapping(text), **kwargs)


def test_a_mapping_reads_somebody_elses_file(write):
    log = mapped(write(theirs())).log
    assert (log.id, log.zone, log.load.tolist()) == (("7",), "Asia/Shanghai", [2])
    assert log.placed_ms.tolist() == [START_MS + 300_000]
    assert log.ready_ms.tolist() == [START_MS + 300_000 + 750_000]
    assert log.promise_ms.tolist() == [START_MS + 2_400_000]
    at = (log.pickup_lat[0], log.pickup_lon[0], log.door_lat[0], log.door_lon[0])
    assert at == pytest.approx((30.65, 104.06, 30.66, 104.07), abs=1e-8)


@pytest.mark.parametrize(
    ("changed", "kind", "column"),
    [
        ({"arrived": "01/06/2026 11:10"}, Kind.DROP_OFF_BEFORE_PICKUP, "arrived"),
        ({"left": "01/06/2026 11:00"}, Kind.PICKUP_BEFORE_PLACEMENT, "left"),
        ({"left": "", "arrived": "01/06/2026 11:00"}, Kind.DROP_OFF_BEFORE_PICKUP, "arrived"),
        ({"created": "2026-06-01 11:05"}, Kind.NOT_A_TIME, "created"),
        ({"prep": "1e9"}, Kind.OUT_OF_RANGE, "prep"),
    ],
)
def test_what_happened_must_have_been_possible(write, changed, kind, column):
    with pytest.raises(BadLog) as refused:
        mapped(write(theirs(**changed)))
    assert [f.column for f in refused.value.report.first[kind]] == [column]
    assert dict(refused.value.report.bad) == {kind: 1}


@pytest.mark.parametrize(
    ("path", "told"),
    [("none.csv", "none.csv: no such file"), ("log.xlsx", "a folder, or a file .csv")],
)
def test_a_file_that_is_none(tmp_path, path, told):
    with pytest.raises((MissingFile, InvalidValue), match=told):
        read_log(tmp_path / path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (b"", "the names of the columns"),
        (b"id,placed_ms,id\n", "every column once"),
        (b"id,placed\n1,2\n", "a column 'placed_ms', our placed"),
        (b"id,placed_ms\n", "at least one order"),
        (b'id,placed_ms\n"1,2\n', "line 2"),
        ("id,placed_ms\n1,2\n订单,2\n".encode("gb18030"), r"line 3: 'byte 0xb6'.*utf-8 text.*enc"),
        (b"id,placed_ms\n1,2\xe8", "line 2: .*utf-8 text"),
    ],
)
def test_a_file_that_cannot_be_read_at_all(tmp_path, text, told):
    path = tmp_path / "log.csv"
    path.write_bytes(text)
    with pytest.raises(InvalidValue, match=told):
        read_log(path, zone="UTC", bad=Bad.DROP)


def test_names_of_files_may_be_in_capitals(rows, write, tmp_path):
    log = read_log(write(rows, "LOG.CSV")).log
    write_log(log, tmp_path / "OUT.CSV")
    assert read_log(tmp_path / "OUT.CSV").log.id == log.id


def test_another_alphabet_is_read_when_it_is_named(write, rows):
    path = write(rows)
    path.write_bytes(path.read_text().replace("o5,", "订单,").encode("gb18030"))
    log = read_log(path, dataclasses.replace(ORDERS, encoding="gb18030")).log
    assert log.id[5] == "订单"


@pytest.mark.parametrize("column", ["pickup_lat", "door_lon"])
def test_a_needed_column_that_is_not_there_is_named_once(rows, write, column):
    for row in rows:
        del row[column]
    for bad in Bad:
        with pytest.raises(InvalidValue, match=rf"a column for our {column}") as refused:
            read_log(write(rows), bad=bad)
        assert not isinstance(refused.value, BadLog)


def test_local_hours_need_a_zone(rows, write):
    for row in rows:
        del row["zone"]
    with pytest.raises(InvalidValue, match="zone: None"):
        read_log(write(rows))
    assert read_log(write(rows), zone="Asia/Tokyo").log.zone == "Asia/Tokyo"
