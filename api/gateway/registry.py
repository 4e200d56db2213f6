"""Whose each rider is, so that most can connect without the store; may import the store."""

from __future__ import annotations

from typing import NamedTuple

from api.capacity import Budget
from api.gateway.mirror import Mirror
from api.gateway.recent import Recent
from api.store import Store

KNOWN_MAX = 200_000


class Home(NamedTuple):
    """The tenant and city that registered a rider. The store never lets them change."""

    tenant: str
    city: str


class Registry:
    """Homes of riders: of those on shift from the mirror, of others as the store once said."""

    def __init__(self, store: Store, mirror: Mirror, reads: Budget) -> None:
        self._store, self._mirror, self._reads = store, mirror, reads
        self._known = Recent[Home](KNOWN_MAX)

    async def home(self, rider_id: str) -> Home | None:
        """Where he is registered, None when nowhere. Raises what the store and a budget raise."""
        on_shift = self._mirror.riders.get(rider_id)
        if on_shift is not None:
            return Home(on_shift.tenant, on_shift.city)
        home = self._known.get(rider_id)
        if home is not None:
            return home
        async with self._reads.share():
            rider = await self._store.rider(rider_id)
        if rider is None:
            return None
        home = Home(rider.tenant, rider.city)
        self._known.put(rider_id, home)
        return home
