"""Tables beside a scenario: what is written is read; what is wrong is told by its line."""

import dataclasses

import pytest

from geo.errors import InvalidValue, MissingFile, UnknownKey
from sim.arrivals import orders_expected
from sim.scenario import Doors, KnownMerchant, Rate, load_scenario, parse_scenario, table_text

CELL, OTHER = "8840e3ce8dfffff", "8840e3ce89fffff"
RATES = (
    Rate(cell=CELL, per_h=tuple(float(i) for i in range(24)), weekday="mon"),
    Rate(cell=OTHER, per_h=(2.5,), weekday="mon", job_type="delivery"),
)
DOORS = (Doors(cell=CELL, door_cell=OTHER, share=0.25), Doors(cell="any", door_cell=CELL, share=1))
MERCHANTS = (KnownMerchant(id="a, b", lat=30.66123456, lon=104.06, weight=3.0, prep_s=61.5),)
TEXT = """
name: mine
city: {name: chengdu, lat: 30.6586, lon: 104.0648, radius_m: 4000}
start_ms: 1_780_282_800_000
duration_s: 5_400
horizon_s: 14_400
demand: {rates: rates.csv, doors: doors.csv, merchants: merchants.csv}
riders: {count: 10, shifts: [{start_h: 0, hours: 3}]}
merchants: {count: 1}
jobs: {delivery: 1.0}
"""


@pytest.fixture
def folder(tmp_path):
    tables = {"rates": RATES, "doors": DOORS, "merchants": MERCHANTS}
    for name, rows in tables.items():
        (tmp_path / f"{name}.csv").write_text(table_text(name, rows), encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(TEXT, encoding="utf-8")
    return tmp_path


def test_what_is_written_is_read(folder):
    demand = load_scenario(folder / "mine.yaml").demand
    assert demand.doors == DOORS
    assert demand.merchants == MERCHANTS
    assert demand.rates == (RATES[0], dataclasses.replace(RATES[1], per_h=(2.5,) * 24))


def test_how_many_orders_are_expected(folder):
    """03:00 to 04:30 on a Monday (UTC): 3 and half of 4 by one row, 1.5 times 2.5 by the other."""
    found = load_scenario(folder / "mine.yaml")
    assert orders_expected(found) == round(3 + 2 + 3.75)
    lunch = load_scenario("lunch")
    assert orders_expected(lunch) == lunch.orders.count


@pytest.mark.parametrize(
    ("table", "change", "error", "told"),
    [
        ("rates", (",2.5,", ",two,"), InvalidValue, r"rates.csv, line 3, 00:00.*'two'"),
        ("rates", ("weekday", "day"), UnknownKey, r"rates.csv.*'day'"),
        ("rates", ("00:00,01:00", "00:00,01:30"), UnknownKey, r"1, 24 or 96 local times"),
        ("rates", (CELL, "8840e3ce8dffffe"), InvalidValue, r"demand.rates"),
        ("doors", ("share", "part"), UnknownKey, r"'part'"),
        ("doors", (f"{OTHER},0.25", OTHER), InvalidValue, r"doors.csv, line 2"),
        ("merchants", ("30.66123456", ""), InvalidValue, r"merchants.csv, line 2, lat"),
        ("merchants", ("id,lat", "name,lat"), UnknownKey, r"'name'"),
        ("merchants", ("30.66123456", "nan"), InvalidValue, r"line 2, lat"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_its_line(folder, table, change, error, told):
    path = folder / f"{table}.csv"
    text = path.read_text(encoding="utf-8")
    assert change[0] in text
    path.write_text(text.replace(*change, 1), encoding="utf-8")
    with pytest.raises(error, match=told):
        load_scenario(folder / "mine.yaml")


def test_a_table_that_is_not_there_is_missed(folder):
    (folder / "doors.csv").unlink()
    with pytest.raises(MissingFile, match=r"doors\.csv"):
        load_scenario(folder / "mine.yaml")
    with pytest.raises(InvalidValue, match="no folder"):
        parse_scenario(TEXT)


def test_rows_may_stand_in_the_scenario_itself():
    inline = TEXT.replace(
        "{rates: rates.csv, doors: doors.csv, merchants: merchants.csv}",
        f"{{rates: [{{cell: {CELL}, per_h: [7]}}], factor: 2}}",
    )
    demand = parse_scenario(inline).demand
    assert demand.rates == (Rate(cell=CELL, per_h=(7.0,)),)
    assert demand.factor == 2.0
