"""Which of an endpoint's events may go now; no I/O, imports the store's values.

A lane is the events of one order or rider. One at a time goes out of a lane, lanes go side by side.
A lane whose event failed is *behind*: from then on only its place in the feed is kept, and its
later events are read again when it has caught up so far.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from api.store.webhook_sending import Behind, Dead, Entry, Subject


class Changes(NamedTuple):
    """What must be written beside the cursor."""

    behind: list[Behind]
    caught_up: list[Subject]
    dead: list[Dead]


class Lanes:
    """One endpoint's lanes, from its cursor and the lanes that are behind.

    `retry_s` are the seconds to wait after each failure, the last of them again and again, until
    the event would be older than `give_up_s` since its first attempt: then it is dead.
    """

    def __init__(
        self, cursor: int, behind: Iterable[Behind], retry_s: Sequence[float], give_up_s: float
    ) -> None:
        self._retry_ms = [round(s * 1000) for s in retry_s]
        self._give_up_ms = round(give_up_s * 1000)
        self.read_to = cursor
        self._open: dict[int, int] = {}  # at_ms by position, in the order of the feed
        self._queues: dict[Subject, deque[Entry]] = {}
        self._ready: deque[Subject] = deque()
        self._behind = {b.subject: b for b in behind}
        self._due = [(b.next_at_ms, b.position, b.subject) for b in self._behind.values()]
        heapq.heapify(self._due)
        self._changed: set[Subject] = set()
        self._dead: list[Dead] = []

    @property
    def cursor(self) -> int:
        """Every event up to here is delivered, dead or in a lane that is behind."""
        return next(iter(self._open)) - 1 if self._open else self.read_to

    @property
    def waiting(self) -> int:
        """How many events are held in memory."""
        return len(self._open)

    @property
    def behind(self) -> int:
        """How many lanes are behind."""
        return len(self._behind)

    @property
    def changed(self) -> bool:
        """Whether there is something to write beside the cursor."""
        return bool(self._changed or self._dead)

    def oldest_ms(self) -> int | None:
        """Since when the oldest event waits, None when none does."""
        at = [next(iter(self._open.values()))] if self._open else []
        at += [b.tried_since_ms for b in self._behind.values() if b.tried_since_ms is not None]
        return min(at, default=None)

    # --- events from the feed ----------------------------------------------------------------

    def admit(self, entries: Iterable[Entry], read_to: int) -> None:
        """The next events, in order; there are no others up to `read_to`."""
        for entry in entries:
            subject = entry.subject
            if subject in self._behind:
                continue
            self._open[entry.placed.position] = entry.placed.event.at_ms
            queue = self._queues.get(subject)
            if queue is None:
                self._queues[subject] = deque([entry])
                self._ready.append(subject)
            else:
                queue.append(entry)
        self.read_to = read_to

    def take_fresh(self) -> Entry | None:
        """The first event of a lane from which none is out; it is out from now on."""
        return self._queues[self._ready.popleft()][0] if self._ready else None

    def delivered(self, entry: Entry) -> None:
        """Settles what `take_fresh` gave."""
        queue = self._queues[entry.subject]
        queue.popleft()
        del self._open[entry.placed.position]
        if queue:
            self._ready.append(entry.subject)
        else:
            del self._queues[entry.subject]

    def failed(self, entry: Entry, now_ms: int, problem: str) -> None:
        """Settles what `take_fresh` gave: its lane is behind."""
        for held in self._queues.pop(entry.subject):
            del self._open[held.placed.position]
        here = Behind(
            subject=entry.subject,
            position=entry.placed.position,
            attempts=0,
            tried_since_ms=None,
            next_at_ms=0,
        )
        self._behind[entry.subject] = here
        self._fail(here, now_ms, problem)

    # --- lanes that are behind ---------------------------------------------------------------

    def next_due_ms(self) -> int | None:
        """When the next lane behind is due, None when none is."""
        return self._due[0][0] if self._due else None

    def take_due(self, now_ms: int) -> Behind | None:
        """A lane behind whose time has come; it is out from now on."""
        if not self._due or self._due[0][0] > now_ms:
            return None
        return self._behind[heapq.heappop(self._due)[2]]

    def hasten(self, now_ms: int) -> None:
        """Every lane behind that waits for its time is due now."""
        for _, _, subject in self._due:
            here = self._behind[subject]
            self._behind[subject] = replace(here, next_at_ms=min(here.next_at_ms, now_ms))
            self._changed.add(subject)
        self._due = [(self._behind[s].next_at_ms, position, s) for _, position, s in self._due]
        heapq.heapify(self._due)

    def failed_again(self, behind: Behind, entry: Entry, now_ms: int, problem: str) -> bool:
        """Settles what `take_due` gave. True when the event is dead now: then `advance`."""
        failed = self._fail(behind, now_ms, problem)
        if failed is None:
            return False
        self._dead.append(Dead(entry, failed.attempts, now_ms, problem))
        return True

    def advance(self, behind: Behind, position: int | None) -> None:
        """Settles what `take_due` gave: go on at `position`, or None: it has caught up."""
        self._changed.add(behind.subject)
        if position is None:
            del self._behind[behind.subject]
            return
        after = replace(
            behind, position=position, attempts=0, tried_since_ms=None, next_at_ms=0, last_error=""
        )
        self._behind[behind.subject] = after
        heapq.heappush(self._due, (0, position, behind.subject))

    def _fail(self, behind: Behind, now_ms: int, problem: str) -> Behind | None:
        """One more failure; the lane as it failed when that was its last attempt."""
        since_ms = now_ms if behind.tried_since_ms is None else behind.tried_since_ms
        wait_ms = self._retry_ms[min(behind.attempts, len(self._retry_ms) - 1)]
        failed = replace(
            behind,
            attempts=behind.attempts + 1,
            tried_since_ms=since_ms,
            next_at_ms=now_ms + wait_ms,
            last_error=problem,
        )
        if behind.attempts and failed.next_at_ms > since_ms + self._give_up_ms:
            return failed
        self._behind[behind.subject] = failed
        self._changed.add(behind.subject)
        heapq.heappush(self._due, (failed.next_at_ms, failed.position, failed.subject))
        return None

    # --- what to write -----------------------------------------------------------------------

    def take_changes(self) -> Changes:
        """What changed since the last time; with `cursor` as it is now, it is one state."""
        changed, dead = self._changed, self._dead
        self._changed, self._dead = set(), []
        return Changes(
            behind=[self._behind[s] for s in changed if s in self._behind],
            caught_up=[s for s in changed if s not in self._behind],
            dead=dead,
        )
