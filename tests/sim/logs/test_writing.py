"""A log comes back as it was written, and a disk that refuses leaves nothing behind."""

import subprocess
import sys

import numpy as np
import pytest

from geo.errors import CannotWrite, InvalidValue, StartupError
from sim.logs.reading import read_couriers, read_log
from sim.logs.table import CourierLog
from sim.logs.writing import whole_file, write_log

START_MS = 1_780_282_800_000


def same(a, b):
    for name in a.__dataclass_fields__:
        mine, theirs = getattr(a, name), getattr(b, name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
        else:
            assert mine == theirs


def parquet():
    pytest.importorskip("polars", reason="Parquet needs hexrun[logs]")
    return ".parquet"


@pytest.mark.parametrize("suffix", [lambda: ".csv", parquet])
def test_orders_come_back_equal(rows, write, tmp_path, suffix):
    rows[3] |= {"ready_ms": "", "promise_ms": "", "merchant": ""}
    log = read_log(write(rows)).log
    out = tmp_path / f"again{suffix()}"
    write_log(log, out)
    same(log, read_log(out).log)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["log.csv", out.name])


@pytest.mark.parametrize("suffix", [lambda: ".csv", parquet])
def test_couriers_come_back_equal(tmp_path, suffix):
    log = CourierLog(
        zone="America/Bogota", id=("1", "2"), vehicle=("car", "walking"),
        lat=np.array([4.728300534645371, 4.6]), lon=np.array([-74.0373882651329, -74.1]),
        on_ms=START_MS + np.array([1_000, 2_000]), off_ms=START_MS + np.array([1_000, 9_000]),
    )  # fmt: skip
    out = tmp_path / f"couriers{suffix()}"
    write_log(log, out)
    same(log, read_couriers(out).log)


def test_parquet_keeps_its_own_kinds_of_columns(tmp_path):
    """Instants with and without a zone, numbers and nothing, as other programs write them."""
    pl = pytest.importorskip("polars", reason="Parquet needs hexrun[logs]")
    from sim.logs.mapping import parse_mapping

    frame = pl.DataFrame({"order": [7, 8], "lat": [30.65, 30.66], "lon": [104.06, None]})
    local = pl.Series("at", ["2026-06-01T11:05:00", "2026-06-01T11:06:00"]).str.to_datetime()
    frame = frame.with_columns(
        local,
        due=local.dt.replace_time_zone("Asia/Shanghai") + pl.duration(minutes=30),
        door_lat=pl.lit(30.66),
        door_lon=pl.lit(104.05),
    )
    path = tmp_path / "theirs.parquet"
    frame.write_parquet(path)
    mapping = parse_mapping("""
        zone: Asia/Shanghai
        columns: {id: order, placed: at, promise: due, pickup_lat: lat, pickup_lon: lon,
                  door_lat: door_lat, door_lon: door_lon}
        """)
    from sim.logs.report import Bad

    read = read_log(path, mapping, bad=Bad.DROP)
    assert read.log.id == ("7",)
    assert read.log.placed_ms.tolist() == [1_780_283_100_000]
    assert read.log.promise_ms.tolist() == [1_780_283_100_000 + 1_800_000]
    (hole,) = read.report.first["hole"]
    assert (hole.row, hole.column) == (2, "lon")


def test_without_polars_parquet_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(StartupError, match=r"pip install 'hexrun\[logs\]'"):
        read_log(tmp_path / "log.parquet")


@pytest.mark.parametrize(("name", "told"), [("x.xlsx", "ends in"), ("none/x.csv", "No such file")])
def test_a_name_that_cannot_be_written(rows, write, tmp_path, name, told):
    log = read_log(write(rows)).log
    with pytest.raises((InvalidValue, CannotWrite), match=told):
        write_log(log, tmp_path / name)


def test_a_full_disk_says_so_and_leaves_nothing(rows, write, tmp_path):
    """In a process of its own, which may write 1,000 bytes a file."""
    path = write(rows)
    out = tmp_path / "out.csv"
    out.write_text("what was there")
    script = """
import resource, sys
from pathlib import Path
from geo.errors import CannotWrite
from sim.logs.reading import read_log
from sim.logs.writing import write_log
log = read_log(Path(sys.argv[1])).log
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_log(log, Path(sys.argv[2]))
except CannotWrite as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(out)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == f"{out}: cannot be written: File too large"
    assert out.read_text() == "what was there"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.csv", "out.csv"]


def test_a_file_is_there_only_when_it_is_whole(tmp_path):
    path = tmp_path / "x.txt"

    def fail():
        with whole_file(path) as file:
            file.write(b"half")
            assert not path.exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list(tmp_path.iterdir()) == []
