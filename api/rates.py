"""How many requests a minute: by token holder and by address; may import limits and redis.

Counted in Redis for all processes together. While Redis is away each process counts for itself,
which lets through at most as many times the limit as there are processes, and refuses nobody who
keeps to it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from limits import RateLimitItem, parse
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from prometheus_client import Counter
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s
from api.metrics import Mode, degraded
from api.settings import Network, RateSettings
from geo.errors import RateLimited

ANSWER_LIMIT_S = 0.25
REDIS_RETRY_S = 5.0
# Addresses that are known to be over; more are forgotten, and asked for again.
BLOCKED_MAX = 10_000

_REFUSED = Counter("hexrun_rate_limited_total", "Requests and sockets refused", ["limit"])


class Limit(StrEnum):
    """The names of the limits, as in `HEXRUN_RATE_<NAME>`."""

    SUBJECT = "subject"
    ADDRESS = "address"
    STRANGER = "stranger"
    SOCKETS = "sockets"


class Rates:
    """Counts against the limits of the settings."""

    def __init__(self, settings: RateSettings, redis: Redis) -> None:
        self._settings = settings
        self._items: dict[Limit, RateLimitItem] = {
            limit: parse(getattr(settings, limit)) for limit in Limit
        }
        # The client is ours: the address only chooses the library.
        shared = RedisStorage(
            "async+redis://",
            implementation="redispy",
            key_prefix="hexrun-rates",
            connection_pool=redis.connection_pool,  # type: ignore[arg-type]
        )
        self._shared = SlidingWindowCounterRateLimiter(shared)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._own_until_s = 0.0
        self._blocked: dict[tuple[Limit, str], float] = {}

    async def hit(self, limit: Limit, who: str) -> None:
        """Count one. Raises RateLimited when `who` has no more for now."""
        self.check(limit, who)
        item = self._items[limit]
        limiter = self._shared if monotonic_s() >= self._own_until_s else self._own
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                allowed = await limiter.hit(item, limit, who)
            if limiter is self._shared:
                degraded(Mode.RATES_LOCAL, False)
        except (RedisError, OSError, TimeoutError) as error:
            end_if_cancelled()
            self._own_until_s = monotonic_s() + REDIS_RETRY_S
            degraded(Mode.RATES_LOCAL, True, error=type(error).__name__)
            limiter = self._own
            allowed = await limiter.hit(item, limit, who)
        if not allowed:
            # A moment is free again after a share of the window; whoever is over waits a tenth.
            self._block(limit, who, max(1, math.ceil(item.get_expiry() / 10)))
            self.check(limit, who)

    def check(self, limit: Limit, who: str) -> None:
        """Raises RateLimited when `who` is known to be over, without counting."""
        until_s = self._blocked.get((limit, who))
        if until_s is None:
            return
        left_s = until_s - monotonic_s()
        if left_s <= 0:
            del self._blocked[limit, who]
            return
        _REFUSED.labels(limit).inc()
        named = "this token's holder" if limit is Limit.SUBJECT else f"the address {who}"
        raise RateLimited(named, getattr(self._settings, limit), math.ceil(left_s))

    def _block(self, limit: Limit, who: str, for_s: float) -> None:
        if len(self._blocked) >= BLOCKED_MAX:
            self._blocked.clear()
        self._blocked[limit, who] = monotonic_s() + for_s

    def address(self, peer: str | None, forwarded: Sequence[str]) -> str:
        """Whose request it is, by the peer and the values of `X-Forwarded-For`.

        The last address that no trusted proxy has; of IPv6 the network of 64 bits, which is what
        one customer of a provider has.
        """
        hops = [hop.strip() for value in forwarded for hop in value.split(",")]
        found = _address(peer or "")
        while hops and found is not None and self._trusts(found):
            before = _address(hops.pop())
            if before is None:
                break
            found = before
        if found is None:
            return "unknown"
        if found.version == 6:
            return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
        return str(found)

    def _trusts(self, address: Any) -> bool:
        networks: tuple[Network, ...] = self._settings.trusted_proxies
        return any(address in network for network in networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found
