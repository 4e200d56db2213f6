"""A snapshot survives the trip through a flat block."""

import numpy as np

from api.snapshots import Packed, unpack_snapshot
from dispatch.engine import decide
from dispatch.policy import Policy


def flat(snapshot):
    block = bytearray(Packed(snapshot).size)
    Packed(snapshot).write_to(memoryview(block))
    return memoryview(block)


def test_every_column_comes_back_equal_and_read_only(snapshot):
    again = unpack_snapshot(flat(snapshot))
    assert (again.at_ms, again.law) == (snapshot.at_ms, snapshot.law)
    for table in ("stops", "orders", "riders"):
        before, after = getattr(snapshot, table), getattr(again, table)
        for name in before.__slots__:
            old, new = getattr(before, name), getattr(after, name)
            if isinstance(old, tuple):
                assert new == old
            else:
                assert new.dtype == old.dtype
                np.testing.assert_array_equal(new, old)
                assert not new.flags.writeable
    np.testing.assert_array_equal(again.declined, snapshot.declined)
    np.testing.assert_array_equal(again.recent, snapshot.recent)


def test_the_same_plan_comes_of_it(snapshot):
    plan = decide(snapshot, Policy())
    assert plan.offers
    assert decide(unpack_snapshot(flat(snapshot)), Policy()).digest() == plan.digest()
