"""What a process knows of its right to a city; imports the clock and the errors.

PostgreSQL decides who owns a city, by the epoch. This is the owner's own, more cautious view: he
acts only as long as a heartbeat that he sent lately has been answered.
"""

from __future__ import annotations

from api.clock import monotonic_s
from geo.errors import HexrunError

TTL_MS = 3_000
"""After so long without a heartbeat a city is free. A process beats every BEAT_S."""
BEAT_S = 0.5


class LeaseLost(HexrunError):
    """Another process owns the city now; this one may write nothing more."""


class Lease:
    """The epoch under which this process writes to `city`, and until when it may think so."""

    def __init__(self, city: str, epoch: int, until_s: float) -> None:
        self.city, self.epoch = city, epoch
        self._until_s = until_s

    @property
    def holds(self) -> bool:
        return monotonic_s() < self._until_s

    def renew(self, until_s: float) -> None:
        """A heartbeat was answered: good until then, by `monotonic_s`."""
        self._until_s = until_s

    def doubt(self) -> None:
        """PostgreSQL did not answer: nothing is to be tried before the next heartbeat is."""
        self._until_s = 0.0
