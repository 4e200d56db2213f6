"""The watermarks of the riders whose fixes came through this gateway; may import the pool.

And whose they are: a `Seat` is a rider's id or, while nobody can say whose the rider is, the
tenant of his token and the id.
"""

from __future__ import annotations

import asyncio

import structlog
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.gateway.recent import Recent
from api.pool import COUNTERS_MAX, Pool
from api.session import Watermark

log = structlog.get_logger(__name__)

Seat = str | tuple[str, str]

MARKS_MAX = 200_000
ASK_LIMIT_S = 1.0


class Watermarks:
    """Those of each rider's latest counters, the longest unused rider forgotten first."""

    def __init__(self, pool: Pool, marks_max: int = MARKS_MAX) -> None:
        self._pool = pool
        self._marks = Recent[dict[str, Watermark]](marks_max)
        self._trusted = Recent[dict[str, Watermark]](marks_max)

    async def of(self, rider_id: str, counter: str = "") -> Watermark:
        """The watermark of his counter, raised to what another gateway has put into the pool.

        The pool is soft: where it is lost, a rider who changes gateways starts from -1 and what he
        sends again is stored again.
        """
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                last_seq = await self._pool.last_seq(rider_id, counter)
        except (RedisError, OSError) as error:
            end_if_cancelled()
            log.warning("watermark_unknown", rider_id=rider_id, error=str(error))
            last_seq = -1
        mark = _kept(self._marks, rider_id, counter)
        if last_seq > mark.taken:
            mark.stored = mark.taken = last_seq
        return mark

    def on_trust(self, holder: str, counter: str = "") -> Watermark:
        """One apart, for the holder of a token of whom nobody can say whether he is the rider.

        It starts at -1: he learns nothing, and moves nobody's.
        """
        return _kept(self._trusted, holder, counter)


def _kept(marks: Recent[dict[str, Watermark]], who: str, counter: str) -> Watermark:
    known = marks.get(who) or {}
    mark = known.pop(counter, None) or Watermark()
    known[counter] = mark
    while len(known) > COUNTERS_MAX:
        del known[next(iter(known))]
    marks.put(who, known)
    return mark
