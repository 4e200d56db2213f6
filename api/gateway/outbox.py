"""What waits to be sent to one client: bounded, events in order, of positions only the latest."""

from __future__ import annotations

import asyncio
from collections import deque

EVENTS_MAX = 256


class Outbox:
    """Events leave in the order they came, then each key's latest value.

    Nothing is dropped but a value that a later one of its key replaces: when the events are too
    many, `event` says so and the connection has to end. Holds encoded frames.
    """

    def __init__(self, events_max: int = EVENTS_MAX) -> None:
        self._events: deque[bytes] = deque()
        self._latest: dict[str, bytes] = {}
        self._events_max = events_max
        self._some, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self._closed = False

    def event(self, frame: bytes) -> bool:
        """Queue an event; False when there is no room for it. A closed outbox takes no more."""
        if self._closed:
            return True
        if len(self._events) >= self._events_max:
            return False
        self._events.append(frame)
        self._some.set()
        if len(self._events) * 2 >= self._events_max:
            self._room.clear()
        return True

    async def room(self) -> None:
        """Wait while half of the room for events is taken, or until the outbox is closed.

        Who asks this before he reads on does not drown a client in answers to his own frames.
        """
        if not self._closed:
            await self._room.wait()

    def latest(self, key: str, frame: bytes) -> None:
        """Send this instead of the value of the same key that still waits."""
        if self._closed:
            return
        self._latest[key] = frame
        self._some.set()

    def waits(self, key: str) -> bool:
        """Whether a value of this key has not left yet."""
        return key in self._latest

    def forget(self, key: str) -> None:
        """Do not send the value of this key that still waits."""
        self._latest.pop(key, None)

    def close(self) -> None:
        """What is queued leaves, then `get` gives None."""
        self._closed = True
        self._some.set()
        self._room.set()

    async def get(self) -> bytes | None:
        """The next frame to send; None once closed and empty. One task may wait."""
        while True:
            if self._events:
                frame = self._events.popleft()
                if len(self._events) * 2 < self._events_max:
                    self._room.set()
                return frame
            if self._latest:
                return self._latest.pop(next(iter(self._latest)))
            if self._closed:
                return None
            self._some.clear()
            await self._some.wait()
