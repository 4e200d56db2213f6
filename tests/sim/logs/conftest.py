"""Small logs of a made-up town, as files."""

import csv
from pathlib import Path

import pytest

START_MS = 1_780_282_800_000  # 2026-06-01 11:00 in Chengdu
COLUMNS = (
    "id", "placed_ms", "job_type", "merchant", "pickup_lat", "pickup_lon", "door_lat", "door_lon",
    "ready_ms", "promise_ms", "load", "zone",
)  # fmt: skip


def order_rows(count=30):
    """Orders a minute apart, good in every way, in our own format."""
    rows = []
    for n in range(count):
        placed = START_MS + n * 60_000
        lat, lon = 30.65 + n * 0.0005, 104.06 + n * 0.0003
        values = (f"o{n}", placed, "delivery", f"m{n % 5}", lat, lon, lat + 0.01, lon - 0.01,
                  placed + 300_000, placed + 1_800_000, 1 + n % 2, "Asia/Shanghai")  # fmt: skip
        rows.append({name: str(value) for name, value in zip(COLUMNS, values, strict=True)})
    return rows


@pytest.fixture
def rows():
    return order_rows()


@pytest.fixture
def write(tmp_path):
    def write(rows, name="log.csv", columns=None) -> Path:
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns or list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write
