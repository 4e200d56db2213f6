"""The lanes without I/O: what may go, how far the cursor is, and when it is tried again."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given, settings
from hypothesis import strategies as st

from api.settings import WebhookSettings
from api.store import Positioned
from api.store.webhook_sending import Entry, Subject
from api.webhooks.lanes import Lanes
from dispatch.events import Event, Opened

DAY_MS = 86_400_000


def entry(position: int, order_id: str, seq: int = 1) -> Entry:
    event = Event(order_id, seq, position, Opened())
    placed = Positioned(position=position, prev_position=position - 1, city="demo", event=event)
    return Entry(position, Subject("order", order_id), placed)


def test_the_waits_are_those_of_the_documents() -> None:
    default = WebhookSettings()
    lanes = Lanes(0, (), default.retry_s, default.give_up_s)
    lanes.admit([entry(1, "a")], 1)
    first = lanes.take_fresh()
    assert first is not None
    now_ms = 1_000
    lanes.failed(first, now_ms, "answered 500")
    waits = []
    while True:
        due_ms = lanes.next_due_ms()
        assert due_ms is not None
        assert lanes.take_due(due_ms - 1) is None
        behind = lanes.take_due(due_ms)
        assert behind is not None
        waits.append((due_ms - now_ms) // 1000)
        now_ms = due_ms
        if lanes.failed_again(behind, first, now_ms, "answered 500"):
            lanes.advance(behind, None)
            break
    assert waits == [10, 30, 60, 120, 300, 600, 900, 1800, 3600, *[7200] * 10]
    assert now_ms - 1_000 <= DAY_MS < now_ms - 1_000 + 7_200_000
    (dead,) = lanes.take_changes().dead
    assert (dead.entry, dead.attempts) == (first, 20)
    assert (lanes.cursor, lanes.behind) == (1, 0)


def test_the_cursor_waits_for_what_is_out_and_not_for_what_is_behind() -> None:
    lanes = Lanes(0, (), (1.0,), 60)
    lanes.admit([entry(1, "a"), entry(2, "b"), entry(4, "a", 2)], 7)
    a, b = lanes.take_fresh(), lanes.take_fresh()
    assert a is not None
    assert b is not None
    assert lanes.take_fresh() is None  # the second of `a` waits for the first
    lanes.delivered(b)
    assert lanes.cursor == 0
    lanes.failed(a, 0, "answered 500")
    assert (lanes.cursor, lanes.behind, lanes.waiting) == (7, 1, 0)
    (behind,) = lanes.take_changes().behind
    assert (behind.position, behind.attempts, behind.next_at_ms) == (1, 1, 1_000)


@settings(deadline=None, max_examples=60)
@given(
    orders=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    chance=st.lists(st.booleans(), min_size=400, max_size=400),
    pages=st.integers(1, 9),
)
def test_every_event_in_the_order_of_its_lane(
    orders: list[int], chance: list[bool], pages: int
) -> None:
    feed = [entry(n, f"o{order}", n) for n, order in enumerate(orders, 1)]
    chances = iter(chance)
    lanes = Lanes(0, (), (0.001,), 1e9)
    got: defaultdict[str, list[int]] = defaultdict(list)
    saved = 0
    for now_ms in range(10_000):
        page = [e for e in feed if lanes.read_to < e.placed.position <= lanes.read_to + pages]
        lanes.admit(page, min(lanes.read_to + pages, len(feed)))
        while (fresh := lanes.take_fresh()) is not None:
            if next(chances, True):
                got[fresh.subject.id].append(fresh.placed.position)
                lanes.delivered(fresh)
            else:
                lanes.failed(fresh, now_ms, "no")
        while (behind := lanes.take_due(now_ms)) is not None:
            here = feed[behind.position - 1]
            if not next(chances, True):
                assert not lanes.failed_again(behind, here, now_ms, "no")
                continue
            got[behind.subject.id].append(behind.position)
            later = [
                e.placed.position
                for e in feed
                if e.subject == behind.subject
                and behind.position < e.placed.position <= lanes.read_to
            ]
            lanes.advance(behind, min(later, default=None))
        assert lanes.cursor >= saved
        saved = lanes.cursor
        if saved == len(feed) and not lanes.behind:
            break
    wanted: defaultdict[str, list[int]] = defaultdict(list)
    for e in feed:
        wanted[e.subject.id].append(e.placed.position)
    assert got == wanted
