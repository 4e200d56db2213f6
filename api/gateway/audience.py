"""Who is connected and what he listens to; may import the connection.

`Fan` encodes one message once for each kind of client, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from api.gateway.marks import Seat
from api.messages import Codec, Told
from geo.datum import System

if TYPE_CHECKING:
    from api.gateway.connection import Connection


class View(NamedTuple):
    """The form in which a client is told: coordinates and encoding."""

    system: System
    codec: Codec


class Fan:
    """A message for many: made once a coordinate system, encoded once a view."""

    def __init__(self, make: Callable[[System], Told]) -> None:
        self._make = make
        self._messages: dict[System, Told] = {}
        self._frames: dict[View, bytes] = {}

    def frame(self, view: View) -> bytes:
        """The message as this view has it."""
        if view not in self._frames:
            if view.system not in self._messages:
                self._messages[view.system] = self._make(view.system)
            self._frames[view] = view.codec.encode(self._messages[view.system])
        return self._frames[view]


class Audience:
    """The open connections of a city, by what reaches them."""

    def __init__(self) -> None:
        self.everyone: set[Connection] = set()
        self.operators: set[Connection] = set()
        self._riders: dict[Seat, Connection] = {}
        self._watchers: dict[str, set[Connection]] = {}
        self._watched: dict[Connection, tuple[str, ...]] = {}

    def join(self, connection: Connection) -> None:
        """The connection was let in."""
        self.everyone.add(connection)

    def rider(self, seat: Seat) -> Connection | None:
        """The rider's connection."""
        return self._riders.get(seat)

    def riders(self) -> Iterator[tuple[str, Connection]]:
        """Every rider who is connected and known to be who he says."""
        return iter([(s, c) for s, c in self._riders.items() if isinstance(s, str)])

    def seat_rider(self, seat: Seat, connection: Connection) -> Connection | None:
        """His connection from now on; gives the one of before, if any, which has to end."""
        before = self._riders.get(seat)
        self._riders[seat] = connection
        return None if before is connection else before

    def watchers(self, order_id: str) -> tuple[Connection, ...]:
        """Who follows the order."""
        return tuple(self._watchers.get(order_id, ()))

    def watched_by(self, connection: Connection) -> tuple[str, ...]:
        """The orders that the connection follows."""
        return self._watched.get(connection, ())

    def watch(self, connection: Connection, orders: tuple[str, ...]) -> None:
        """Let the connection follow these orders and no others."""
        for order_id in self._watched.pop(connection, ()):
            self._watchers[order_id].discard(connection)
            if not self._watchers[order_id]:
                del self._watchers[order_id]
        if orders:
            self._watched[connection] = orders
        for order_id in orders:
            self._watchers.setdefault(order_id, set()).add(connection)

    def leave(self, connection: Connection) -> None:
        """The connection has ended."""
        self.watch(connection, ())
        self.everyone.discard(connection)
        self.operators.discard(connection)
        for seat in connection.seats:
            if self._riders.get(seat) is connection:
                del self._riders[seat]
