"""All that a gateway keeps and does for one of its cities; may import everything of the gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from redis.asyncio import Redis

from api.capacity import Budget
from api.gateway.audience import Audience
from api.gateway.city_map import CityMap
from api.gateway.connection import Connection
from api.gateway.followers import follow_events, follow_frames, tick_map
from api.gateway.ingest import Ingest
from api.gateway.marks import Seat, Watermarks
from api.gateway.mirror import Mirror
from api.gateway.publish import Publisher
from api.gateway.registry import Registry
from api.pool import Pool
from api.segments import SegmentWriter
from api.settings import CityArea
from api.store import Store

# So many riders who could not be greeted while the store was away are greeted a second.
GREETED_AT_ONCE = 100


class Room:
    """A city: its mirror, its audience, its pool, and its way into the common segments.

    `redis` is for what must not wait, `following` for the blocking reads.
    """

    def __init__(
        self,
        area: CityArea,
        store: Store,
        redis: Redis,
        following: Redis,
        writer: SegmentWriter,
        reads: Budget,
        rows_max: int,
    ) -> None:
        self.name = area.name
        self.audience, self.mirror = Audience(), Mirror()
        self.city_map = CityMap(area, self.mirror, self.audience)
        self.publisher = Publisher(store, self.mirror, self.audience, self.city_map, reads)
        self.registry = Registry(store, self.mirror, reads)
        pool = Pool(redis, area.name)
        self.marks = Watermarks(pool)
        self.ingest = Ingest(
            writer, pool, self._settled, self._lost, self.publisher.take_rows, rows_max=rows_max
        )
        self.loaded = asyncio.Event()
        self._store, self._pool, self._following = store, pool, following
        self._ungreeted: dict[Connection, None] = {}

    def works(self, stop: asyncio.Event) -> list[Coroutine[Any, Any, None]]:
        """What has to run while the city is served."""
        store, following, publisher = self._store, self._following, self.publisher
        return [
            self.ingest.run(),
            self.ingest.project(),
            follow_events(store, following, self._pool, self.name, publisher, self.loaded, stop),
            follow_frames(Pool(following, self.name), self.name, publisher),
            tick_map(self.city_map),
        ]

    def busy(self, rider_id: str) -> bool:
        """Whether the rider has an order or an offer; yes, while the orders are not known."""
        return not self.loaded.is_set() or bool(self.mirror.orders_of(rider_id))

    def greet_later(self, connection: Connection) -> None:
        """The store did not answer: his offers and his route are still to be told."""
        self._ungreeted[connection] = None

    def store_is(self, there: bool) -> None:
        """What the watch over the store has found, each second."""
        self.publisher.stale("orders", not there)
        if there:
            for connection in list(self._ungreeted)[:GREETED_AT_ONCE]:
                del self._ungreeted[connection]
                if not connection.gone.is_set():
                    connection.greet()

    def leave(self, connection: Connection) -> None:
        """The connection has ended."""
        self.audience.leave(connection)
        self._ungreeted.pop(connection, None)

    def _settled(self, seat: Seat) -> None:
        connection = self.audience.rider(seat)
        if connection is not None:
            connection.fixes_stored()

    def _lost(self, seat: Seat, seq: int) -> None:
        connection = self.audience.rider(seat)
        if connection is not None:
            connection.fixes_lost(seq)
