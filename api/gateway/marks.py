"""The watermarks of the riders whose fixes came through this gateway; may import the pool."""

from __future__ import annotations

import asyncio

import structlog
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.gateway.recent import Recent
from api.pool import Pool
from api.session import Watermark

log = structlog.get_logger(__name__)

MARKS_MAX = 200_000
ASK_LIMIT_S = 1.0


class Watermarks:
    """One watermark a rider, kept between his connections, the longest unused forgotten first."""

    def __init__(self, pool: Pool, marks_max: int = MARKS_MAX) -> None:
        self._pool, self._marks = pool, Recent[Watermark](marks_max)

    async def of(self, rider_id: str) -> Watermark:
        """His watermark, raised to what another gateway has put into the pool.

        The pool is soft: where it is lost, a rider who changes gateways starts from -1 and what he
        sends again is stored again.
        """
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                live = await self._pool.get(rider_id)
        except (RedisError, OSError) as error:
            end_if_cancelled()
            log.warning("watermark_unknown", rider_id=rider_id, error=str(error))
            live = None
        mark = self._marks.get(rider_id) or Watermark()
        self._marks.put(rider_id, mark)
        if live is not None and live.last_seq > mark.taken:
            mark.stored = mark.taken = live.last_seq
        return mark
