"""Who is connected and what he listens to; may import the connection.

`Fan` encodes one message once for each kind of client, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

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
        self._riders: dict[str, Connection] = {}
        self._watchers: dict[str, set[Connection]] = {}
        self._watched: dict[Connection, tuple[str, ...]] = {}

    def join(self, connection: Connection) -> None:
        """The connection was let in."""
        self.everyone.add(connection)

    def rider(self, rider_id: str) -> Connection | None:
        """The rider's connection."""
        return self._riders.get(rider_id)

    def riders(self) -> Iterator[tuple[str, Connection]]:
        """Every rider who is connected."""
        return iter(list(self._riders.items()))

    def seat_rider(self, rider_id: str, connection: Connection) -> Connection | None:
        """His connection from now on; gives the one of before, which has to end."""
        before = self._riders.get(rider_id)
        self._riders[rider_id] = connection
        return before

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
        rider_id = connection.rider_id
        if rider_id is not None and self._riders.get(rider_id) is connection:
            del self._riders[rider_id]
