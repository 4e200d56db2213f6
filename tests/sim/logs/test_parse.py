"""Text becomes numbers and instants, or is told apart from them."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.logs.parse import instants, numbers, to_utc
from sim.logs.rows import longest_rise

CHENGDU = ZoneInfo("Asia/Shanghai")
BERLIN = ZoneInfo("Europe/Berlin")


def ms(*parts, zone=UTC):
    return int(datetime(*parts, tzinfo=zone).timestamp() * 1000)


def test_numbers():
    found, fits = numbers(["1", "-2.5", "1e3", "", "x", "inf", "nan", "1_0", "0x1"])
    assert found[:3].tolist() == [1.0, -2.5, 1000.0]
    assert fits.tolist() == [True] * 3 + [False] * 6


@pytest.mark.parametrize(
    ("how", "text", "at_ms"),
    [
        ("iso", "2026-06-01T11:05:00+08:00", ms(2026, 6, 1, 3, 5)),
        ("iso", "2026-06-01T03:05:00.250Z", ms(2026, 6, 1, 3, 5) + 250),
        ("iso", "2026-06-01 11:05", ms(2026, 6, 1, 3, 5)),
        ("iso", "2026-13-01 11:05", None),
        ("iso", "1960-01-01 11:05", None),
        ("epoch_ms", "1780282800000", 1_780_282_800_000),
        ("epoch_ms", "1780282800000000", None),
        ("epoch_ms", "1780282800", None),
        ("epoch_s", "1780282800.5", 1_780_282_800_500),
        ("epoch_s", "1780282800000", None),
        ("clock", "00:00:21", ms(2026, 6, 1, 0, 0, 21, zone=CHENGDU)),
        ("clock", "9:05", ms(2026, 6, 1, 9, 5, zone=CHENGDU)),
        ("clock", "24:00:00", ms(2026, 6, 2, zone=CHENGDU)),
        ("clock", "24:00:01", None),
        ("clock", "12:60", None),
        ("clock", "noon", None),
        ("%d/%m/%Y %H:%M", "01/06/2026 11:05", ms(2026, 6, 1, 3, 5)),
        ("%d/%m/%Y %H:%M", "06-01-2026 11:05", None),
        ("%Y-%m-%d %H:%M %z", "2026-06-01 11:05 +0200", ms(2026, 6, 1, 9, 5)),
    ],
)
def test_instants(how, text, at_ms):
    found, fits = instants([text, ""], how, ms(2026, 6, 1), CHENGDU)
    assert fits.tolist() == [at_ms is not None, False]
    assert at_ms is None or found[0] == at_ms


def test_a_time_without_an_offset_needs_a_zone():
    texts = ["2026-06-01T11:05:00Z", "2026-06-01T11:05:00"]
    assert instants(texts, "iso", 0, None)[1].tolist() == [True, False]


def test_a_time_that_no_clock_showed_is_none():
    texts = ["2026-03-29 01:59", "2026-03-29 02:00", "2026-03-29 02:59", "2026-03-29 03:00"]
    fits = instants([*texts, "2026-10-25 02:10", ""], "iso", 0, BERLIN)[1]
    assert fits.tolist() == [True, False, False, True, True, False]


# Quarters of 2026: of the days on which the clock changes, 29 March and 25 October, and of any.
QUARTERS = st.one_of(*(st.integers(96 * day, 96 * day + 95) for day in (87, 297)))


@given(QUARTERS | st.integers(0, 365 * 96 - 1))
def test_local_time_is_that_of_the_zone(quarter):
    """Of an hour that is shown twice it is the first; a skipped one lies after the gap."""
    local_ms = ms(2026, 1, 1) + quarter * 900_000
    naive = datetime.fromtimestamp(local_ms / 1000, UTC).replace(tzinfo=BERLIN)
    assert to_utc(np.array([local_ms]), BERLIN).tolist() == [int(naive.timestamp() * 1000)]


@given(st.lists(st.integers(0, 9), max_size=12))
def test_the_longest_rise_is_one_and_longest(values):
    kept = longest_rise(np.array(values, np.int64))
    rise = [value for value, keep in zip(values, kept, strict=True) if keep]
    assert rise == sorted(rise)
    best = [1] * len(values)
    for i, value in enumerate(values):
        best[i] = max([best[j] + 1 for j in range(i) if values[j] <= value], default=1)
    assert len(rise) == max(best, default=0)
