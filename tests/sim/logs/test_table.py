"""A log is right once built, and its shops are told apart."""

import dataclasses

import numpy as np
import pytest

from dispatch.snapshot import NEVER
from geo.errors import InvalidValue
from sim.logs.table import CourierLog, OrderLog

AT = np.array([1_000, 2_000, 2_000])


def orders(**changed):
    given = dict(
        zone="Asia/Shanghai", id=("a", "b", "c"), placed_ms=AT, job_type=("delivery",) * 3,
        merchant=("", "m1", ""), pickup_lat=np.array([30.0, 30.0, 30.0]),
        pickup_lon=np.array([104.0, 104.0, 104.0]), door_lat=np.array([30.1, 30.1, 30.1]),
        door_lon=np.array([104.1, 104.1, 104.1]), ready_ms=AT + 5, promise_ms=AT + NEVER,
        load=np.array([1, 1, 2]),
    )  # fmt: skip
    return OrderLog(**(given | changed))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"placed_ms": AT[::-1].copy(), "ready_ms": AT + NEVER}, r"placed_ms\[2\]: 1000"),
        ({"id": ("a", "b", "a")}, r"id\[2\]: 'a'"),
        ({"pickup_lat": np.array([30.0, 91.0, 30.0])}, r"pickup_lat\[1\]: 91.0"),
        ({"door_lon": np.array([104.0, 104.0, -181.0])}, r"door_lon\[2\]: -181.0"),
        ({"door_lon": np.array([104.0, np.nan, 104.0])}, r"door_lon\[1\]: nan"),
        ({"ready_ms": AT - [0, 1, 0]}, r"ready_ms\[1\]: 1999"),
        ({"promise_ms": AT - [1, 0, 0]}, r"promise_ms\[0\]: 999"),
        ({"load": np.array([1, 0, 1])}, r"load\[1\]: 0"),
        ({"load": np.array([1, 1])}, "columns of one length"),
        ({"zone": "Shanghai"}, "zone: 'Shanghai'"),
    ],
)
def test_a_log_that_is_not_right_cannot_be_built(changed, told):
    with pytest.raises(InvalidValue, match=told):
        orders(**changed)


def test_a_job_without_a_stop_has_no_place_there():
    nowhere = np.array([np.nan, 30.0, 30.0])
    log = orders(pickup_lat=nowhere, pickup_lon=nowhere + 74.0)
    assert log.shops().tolist() == [-1, 0, 1]


def test_a_shop_is_a_merchant_or_else_a_place():
    assert orders().shops().tolist() == [0, 1, 0]
    assert orders(merchant=("m1", "m1", "m2")).shops().tolist() == [0, 0, 1]


def test_some_rows_are_a_log_too():
    for rows in (np.array([1, 2]), np.array([False, True, True])):
        taken = orders().take(rows)
        assert (taken.id, taken.placed_ms.tolist()) == (("b", "c"), [2_000, 2_000])


def test_a_courier_is_on_before_he_is_off():
    columns = dict(
        zone="UTC", id=("x",), vehicle=("car",), lat=np.array([1.0]), lon=np.array([1.0]),
        on_ms=np.array([5]), off_ms=np.array([5]),
    )  # fmt: skip
    assert len(CourierLog(**columns)) == 1
    with pytest.raises(InvalidValue, match=r"off_ms\[0\]: 4"):
        dataclasses.replace(CourierLog(**columns), off_ms=np.array([4]))
