"""The event queue: order, limits, and a clock that never goes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geo.errors import InvalidValue
from sim.clock import EventQueue


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 3)), max_size=60))
def test_entries_come_by_time_then_priority_then_as_scheduled(entries):
    queue = EventQueue(0)
    for number, (at_ms, priority) in enumerate(entries):
        queue.schedule(at_ms, (at_ms, priority, number), priority)
    taken, times = [], []
    while len(queue):
        due = queue.next_ms
        taken.append(queue.pop())
        times.append((queue.now_ms, due))
    assert taken == sorted(taken)
    assert all(now == due for now, due in times)
    assert len(taken) == len(entries)


def test_what_is_scheduled_while_running_takes_its_place():
    queue = EventQueue(100)
    queue.schedule(300, "late")
    queue.schedule(200, "soon")
    assert queue.pop() == "soon"
    queue.schedule(200, "at once")
    assert [queue.pop(), queue.pop()] == ["at once", "late"]
    assert queue.next_ms is None


def test_nothing_is_scheduled_in_the_past():
    queue = EventQueue(100)
    with pytest.raises(InvalidValue, match="100 \\(now\\) or later"):
        queue.schedule(99, "x")


def test_the_limit_holds():
    queue = EventQueue(0, limit=2)
    queue.schedule(1, "a")
    queue.schedule(1, "b")
    with pytest.raises(InvalidValue, match="at most 2 entries"):
        queue.schedule(1, "c")
    queue.pop()
    queue.schedule(1, "c")
    with pytest.raises(InvalidValue, match=r"queue\.limit"):
        EventQueue(0, limit=0)


def test_the_clock_advances_but_never_back_nor_past_an_entry():
    queue = EventQueue(0)
    queue.schedule(50, "x")
    queue.advance(50)
    assert queue.now_ms == 50
    with pytest.raises(InvalidValue, match="clock"):
        queue.advance(49)
    with pytest.raises(InvalidValue, match="the next entry"):
        queue.advance(51)
