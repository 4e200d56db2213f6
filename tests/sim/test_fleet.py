"""The fleet: vectorised positions agree with the path, and only movers send."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.distance import Plane
from geo.motion import leg, stand
from sim.fleet import Fleet

PLANE = Plane(30.66, 104.06)


def fleet(count=1, interval_ms=1):
    made = Fleet(tuple(f"r{i}" for i in range(count)), PLANE, interval_ms)
    for row in range(count):
        made.switch(row, True, 0)
    return made


def senders(fixes):
    return tuple(fixes.rider_id[row] for row in fixes.which.tolist())


def places(fixes):
    return list(zip(*PLANE.xy(fixes.lat, fixes.lon), strict=True))


@given(
    st.floats(-9e3, 9e3), st.floats(-9e3, 9e3), st.integers(1, 10**6), st.integers(0, 1),
    st.floats(0, 1.5),
)  # fmt: skip
def test_a_fix_lies_on_the_path(x, y, ride_ms, metric, share):
    path = leg(10.0, -20.0, x, y, 1_000, 1_000 + ride_ms, metric)
    one = fleet()
    one.follow(0, path)
    at_ms = 1_000 + int(share * ride_ms)
    fixes = one.fixes(at_ms)
    assert fixes is not None
    assert fixes.at_ms.tolist() == [min(at_ms, 1_000 + ride_ms)]
    assert places(fixes)[0] == pytest.approx(path.at(at_ms), abs=1e-5)


def test_only_those_send_who_have_moved_since_their_last_fix():
    three = fleet(3)
    three.follow(0, leg(0.0, 0.0, 100.0, 0.0, 1_000, 11_000, 0))
    three.follow(1, stand(5.0, 5.0, 0))
    three.switch(2, False, 0)
    three.follow(2, leg(0.0, 0.0, 100.0, 0.0, 1_000, 11_000, 0))
    assert senders(three.fixes(6_000)) == ("r0",)
    assert three.fixes(6_000) is None
    last = three.fixes(20_000)
    assert places(last)[0] == pytest.approx((100.0, 0.0))
    assert three.fixes(30_000) is None


def test_fixes_keep_the_phones_own_rhythm():
    two = fleet(2, interval_ms=10_000)
    for row in range(2):
        two.follow(row, leg(0.0, 0.0, 1_000.0, 0.0, 0, 100_000, 0))
    first = two.fixes(19_999)
    at_ms = first.at_ms.tolist()
    assert senders(first) == ("r0", "r1")
    assert min(at_ms) >= 10_000
    assert np.array(places(first))[:, 0] == pytest.approx([at / 100 for at in at_ms])
    early, late = sorted(at_ms)
    assert two.fixes(early + 9_999) is None
    second = two.fixes(early + 10_000)
    assert second.at_ms.tolist() == [early + 10_000]
    assert two.fixes(late + 10_000).at_ms.tolist() == [late + 10_000]


def test_a_phones_rhythm_is_the_same_whoever_else_rides():
    def sent(count):
        some = fleet(count, interval_ms=10_000)
        for row in range(count):
            some.follow(row, leg(0.0, 0.0, 1_000.0, 0.0, 0, 100_000, 0))
        return some.fixes(19_999).at_ms

    few, many = sent(100), sent(1_000)
    assert few.tolist() == many[:100].tolist()
    # As many in each second: 100, within 4 standard deviations.
    assert np.bincount(many // 1_000 - 10) == pytest.approx(np.full(10, 100), abs=40)


def test_a_phone_reads_at_every_turn_and_when_it_is_on_again():
    one = fleet(interval_ms=10**9)  # It reads of itself when all is over.
    one.follow(0, leg(0.0, 0.0, 100.0, 0.0, 1_000, 11_000, 0))
    one.follow(0, leg(30.0, 0.0, 30.0, 70.0, 4_000, 11_000, 0))
    turned = one.fixes(6_000)
    assert turned.at_ms.tolist() == [4_000]
    assert places(turned)[0] == pytest.approx((30.0, 0.0))
    one.silence(0, 9_000)
    one.silence(0, 8_000)
    assert one.fixes(8_999) is None
    again = one.fixes(9_500)
    assert again.at_ms.tolist() == [9_000]
    assert places(again)[0] == pytest.approx((30.0, 50.0))
    assert one.fixes(99_999) is None
    one.send_again()
    assert one.fixes(99_999).at_ms.tolist() == [9_000]
