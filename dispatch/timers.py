"""What is to be asked of orders when its time comes; imports the commands.

A timer that nobody has answered is asked again: after REPEAT_MS, then twice as long each time, up
to REPEAT_MAX_MS.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush

from dispatch.commands import Command

REPEAT_MS, REPEAT_MAX_MS = 1_000, 10_000


class Timers:
    """Commands by when they are due; those of one moment come in the order in which they were set.

    `next_ms` is when the first one is due, None without any.
    """

    __slots__ = ("_heap", "_number", "next_ms")

    def __init__(self) -> None:
        # (due, running number, order id, command, pause before it is asked again)
        self._heap: list[tuple[int, int, str, Command, int]] = []
        self._number = 0
        self.next_ms: int | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def set(self, due_ms: int, order_id: str, command: Command, pause_ms: int = REPEAT_MS) -> None:
        self._number += 1
        heappush(self._heap, (due_ms, self._number, order_id, command, pause_ms))
        self.next_ms = self._heap[0][0]

    def pop(self) -> tuple[int, str, Command, int]:
        """The first one: when it was due, its order, the command, the pause before the next try."""
        due_ms, _, order_id, command, pause_ms = heappop(self._heap)
        self.next_ms = self._heap[0][0] if self._heap else None
        return due_ms, order_id, command, pause_ms

    def skip(self, is_over: Callable[[int, str, Command], bool]) -> None:
        """Drops the first ones (due, order id, command) as long as they would come to nothing."""
        heap = self._heap
        while heap and is_over(heap[0][0], heap[0][2], heap[0][3]):
            heappop(heap)
        self.next_ms = heap[0][0] if heap else None


def longer(pause_ms: int) -> int:
    """The pause after this one."""
    return min(2 * pause_ms, REPEAT_MAX_MS)
