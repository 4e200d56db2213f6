"""The virtual clock: a queue of what is due, by (time, priority, sequence); no real time in it."""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Generic, TypeVar

from geo.errors import InvalidValue

T = TypeVar("T")

QUEUE_MAX = 10_000_000


class EventQueue(Generic[T]):
    """What is due and when; the clock stands at the time of the last entry taken.

    Entries of one time come by priority (lower first), then in the order they were scheduled.
    `limit` bounds the entries that wait at one time. `next_ms` is the time of the next entry, None
    when nothing waits.
    """

    __slots__ = ("_heap", "_sequence", "limit", "next_ms", "now_ms")

    def __init__(self, start_ms: int, limit: int = QUEUE_MAX) -> None:
        if limit < 1:
            raise InvalidValue("queue.limit", limit, "1 or more entries")
        self.now_ms = start_ms
        self.limit = limit
        self._heap: list[tuple[int, int, int, T]] = []
        self._sequence = 0
        self.next_ms: int | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def schedule(self, at_ms: int, item: T, priority: int = 0) -> None:
        """Raises InvalidValue for a time before now, or when `limit` entries already wait."""
        if at_ms < self.now_ms:
            raise InvalidValue("queue.at_ms", at_ms, f"{self.now_ms} (now) or later")
        if len(self._heap) >= self.limit:
            raise InvalidValue("queue", len(self._heap), f"at most {self.limit} entries waiting")
        self._sequence += 1
        heappush(self._heap, (at_ms, priority, self._sequence, item))
        self.next_ms = self._heap[0][0]

    def pop(self) -> T:
        """Take the next entry and move the clock to it. Raises IndexError when nothing waits."""
        heap = self._heap
        self.now_ms, _, _, item = heappop(heap)
        self.next_ms = heap[0][0] if heap else None
        return item

    def advance(self, to_ms: int) -> None:
        """Move the clock without taking an entry; never back, and never past a waiting entry."""
        if to_ms < self.now_ms:
            raise InvalidValue("clock", to_ms, f"{self.now_ms} (now) or later")
        if self._heap and self._heap[0][0] < to_ms:
            raise InvalidValue("clock", to_ms, f"at most {self._heap[0][0]}, the next entry")
        self.now_ms = to_ms
