"""The live riders of a city in Redis: newest fix by rider, riders by H3 cell; owns these keys.

Keys share one hash tag, hence one slot of a cluster: `{city}:riders` is a hash of packed records,
`{city}:cell:<h3>` a sorted set of riders by fix time, `{city}:fixes` the capped stream of frames,
`{city}:counters` a hash of the highest fix in each of a rider's latest counters.
All of it is soft: it can be lost and fills again with the next fixes. Needs Redis 7.0 or Valkey.
May import geo, the journal's row and place, and redis.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import structlog
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from api.cancelling import end_if_cancelled
from api.messages import FixRow
from api.segments import Ref
from geo.cells import boundary_of, cell_of, ring, to_text
from geo.distance import haversine_m

log = structlog.get_logger(__name__)

# A rider who stays in his cell has his score renewed this often, so that a score is at most this
# much older than his fix.
REFRESH_MS = 60_000
# A rider who sent nothing for so long leaves his cell when somebody else enters it.
GONE_MS = 3_600_000
STREAM_FRAMES_MAX = 4096
RIDERS_A_CALL_MAX = 1000
FRAMES_A_READ = 100
# Counters of a rider's phones that are remembered: one of earlier counts as new.
COUNTERS_MAX = 4
# First and last ring of each read of `nearest`: 12 rings reach about 10 km.
RINGS = ((0, 1), (2, 3), (4, 6), (7, 11))

# at_ms, seq, last_seq, score_ms, cell in hexadecimal; lat, lon; accuracy, speed, heading.
_RECORD = struct.Struct(">QQQQ16sddfff")
_NOWHERE = b"0" * 16

# KEYS: riders, stream. ARGV: cell prefix, REFRESH_MS, GONE_MS, frames kept, frame or "", then
# rider id and record by turns. A record replaces an older one by (at_ms, seq); `last_seq` only
# grows; the cell's set is touched only when the cell changes or the score is to be renewed.
_FLUSH = """
local ids = {}
for i = 6, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local changed = {}
if #ids > 0 then
  local known = redis.call('HMGET', KEYS[1], unpack(ids))
  for i, id in ipairs(ids) do
    local new, old = ARGV[5 + 2 * i], known[i]
    local at, seq, last, score = struct.unpack('>I8I8I8I8', new)
    local cell, was = string.sub(new, 33, 48), nil
    local newer = true
    if old then
      local at0, seq0, last0, score0 = struct.unpack('>I8I8I8I8', old)
      newer = at > at0 or (at == at0 and seq > seq0)
      if newer then
        was = string.sub(old, 33, 48)
        if was == cell and at - score0 < tonumber(ARGV[2]) then score = score0 end
        last = math.max(last, last0)
      elseif last > last0 then
        changed[#changed + 1] = id
        changed[#changed + 1] = struct.pack('>I8I8I8I8', at0, seq0, last, score0)
          .. string.sub(old, 33)
      end
    end
    if newer then
      if was and was ~= cell then redis.call('ZREM', ARGV[1] .. was, id) end
      if score == at then
        redis.call('ZADD', ARGV[1] .. cell, at, id)
        redis.call('ZREMRANGEBYSCORE', ARGV[1] .. cell, '-inf', at - tonumber(ARGV[3]))
      end
      changed[#changed + 1] = id
      changed[#changed + 1] = struct.pack('>I8I8I8I8', at, seq, last, score) .. string.sub(new, 33)
    end
  end
end
if #changed > 0 then redis.call('HSET', KEYS[1], unpack(changed)) end
if ARGV[5] ~= '' then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 'f', ARGV[5])
end
return #changed / 2
"""

# KEYS: counters. ARGV: cell prefix, COUNTERS_MAX, then rider id, counter and highest fix by turns.
_COUNT = """
for i = 3, #ARGV, 3 do
  local kept = {{ARGV[i + 1], tonumber(ARGV[i + 2])}}
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  for _, one in ipairs(known and cmsgpack.unpack(known) or {}) do
    if one[1] == kept[1][1] then
      kept[1][2] = math.max(kept[1][2], one[2])
    elseif #kept < tonumber(ARGV[2]) then
      kept[#kept + 1] = one
    end
  end
  redis.call('HSET', KEYS[1], ARGV[i], cmsgpack.pack(kept))
end
return 0
"""

# KEYS: riders. ARGV: cell prefix, oldest score, cells. Gives rider id and record by turns.
_NEAR = """
local found = {}
for i = 3, #ARGV do
  local ids = redis.call('ZRANGEBYSCORE', ARGV[1] .. ARGV[i], ARGV[2], '+inf')
  for first = 1, #ids, 1000 do
    local some = {unpack(ids, first, math.min(first + 999, #ids))}
    for j, record in ipairs(redis.call('HMGET', KEYS[1], unpack(some))) do
      if record then
        found[#found + 1] = some[j]
        found[#found + 1] = record
      end
    end
  end
end
return found
"""

# KEYS: riders. ARGV: cell prefix, rider id. The record stays, without a cell.
_REMOVE = """
local old = redis.call('HGET', KEYS[1], ARGV[2])
if not old then return 0 end
redis.call('ZREM', ARGV[1] .. string.sub(old, 33, 48), ARGV[2])
redis.call('HSET', KEYS[1], ARGV[2],
  string.sub(old, 1, 32) .. string.rep('0', 16) .. string.sub(old, 49))
return 1
"""


class Live(NamedTuple):
    """A rider's newest fix in WGS-84 degrees; `last_seq` is the highest without a counter."""

    rider_id: str
    at_ms: int
    seq: int
    last_seq: int
    lat: float
    lon: float
    accuracy_m: float | None
    speed_mps: float | None
    heading_deg: float | None
    in_pool: bool


class Near(NamedTuple):
    """A live rider `distance_m` metres away along the great circle."""

    live: Live
    distance_m: float


class FrameRow(msgspec.Struct, frozen=True, array_like=True):
    """One fix of a frame in WGS-84 degrees."""

    rider_id: str
    seq: int
    at_ms: int
    lat: float
    lon: float
    heading_deg: float | None = None


class Frame(msgspec.Struct, frozen=True, kw_only=True):
    """One flush of a gateway as it stands in the stream, with its place in the segment."""

    segment: str
    offset: int
    length: int
    rows: list[FrameRow]


_frame_bytes = msgspec.msgpack.Encoder().encode
_frame = msgspec.msgpack.Decoder(Frame).decode
_counts = msgspec.msgpack.Decoder(list[tuple[str, int]]).decode


class Pool:
    """The pool of one city. Every method raises redis.exceptions.RedisError when Redis is gone."""

    def __init__(self, redis: Redis, city: str) -> None:
        self._redis = redis
        self._do: Callable[..., Awaitable[Any]] = redis.execute_command
        self._riders, self._stream = f"{{{city}}}:riders", f"{{{city}}}:fixes"
        self._cells, self._counters = f"{{{city}}}:cell:", f"{{{city}}}:counters"

    async def flush(self, rows: Iterable[FixRow], ref: Ref | None = None) -> int:
        """Take a batch of fixes in any order; with `ref` also add its frame to the stream.

        One script call a batch of at most RIDERS_A_CALL_MAX riders. Gives the number of records
        that changed.
        """
        rows = list(rows)
        await self._count(rows)
        frame = b"" if ref is None else _frame_bytes(_frame_of(rows, ref))
        packed = _newest(rows)
        changed = 0
        step = 2 * RIDERS_A_CALL_MAX
        for first in range(0, max(1, len(packed)), step):
            last = first + step >= len(packed)
            changed += await self._call(
                _FLUSH_SHA,
                _FLUSH,
                (self._riders, self._stream),
                REFRESH_MS,
                GONE_MS,
                STREAM_FRAMES_MAX,
                frame if last else b"",
                *packed[first : first + step],
            )
        return changed

    async def nearest(
        self, lat: float, lon: float, k: int, now_ms: int, stale_ms: int
    ) -> list[Near]:
        """The `k` riders nearest to a WGS-84 point, nearest first, by ring after ring of cells.

        Riders whose fix is older than `stale_ms` are left out. Fewer than `k` come back when the
        outermost ring of RINGS (about 10 km) holds no more.
        """
        centre = cell_of(lat, lon)
        edge_m = _shortest_edge_m(centre)
        oldest_ms = now_ms - stale_ms
        found: list[Near] = []
        for first, last in RINGS:
            cells = [to_text(c) for r in range(first, last + 1) for c in ring(centre, r)]
            lives = await self._in_cells(cells, oldest_ms - REFRESH_MS)
            fresh = [live for live in lives if live.at_ms >= oldest_ms]
            lats = np.array([live.lat for live in fresh])
            lons = np.array([live.lon for live in fresh])
            metres = np.atleast_1d(haversine_m(lat, lon, lats, lons))
            found += map(Near, fresh, metres.tolist())
            found.sort(key=lambda near: (near.distance_m, near.live.rider_id))
            # The centres of ring m lie at least 1.5 m edges away, and each of the two points
            # within one edge of its centre: nobody outside is nearer than this.
            outside_m = (1.5 * (last + 1) - 2.0) * edge_m
            if len(found) >= k and found[k - 1].distance_m <= outside_m:
                break
        return found[:k]

    async def remove(self, rider_id: str) -> bool:
        """Take a rider out of `nearest` until a newer fix of his comes; False if unknown."""
        return bool(await self._call(_REMOVE_SHA, _REMOVE, (self._riders,), rider_id))

    async def get(self, rider_id: str) -> Live | None:
        """The rider's newest fix, in the pool or removed."""
        record = await self._do("HGET", self._riders, rider_id)
        return None if record is None else _unpack(rider_id, record)

    async def last_seq(self, rider_id: str, counter: str = "") -> int:
        """The highest fix that was stored in the rider's counter, -1 for none."""
        if not counter:
            live = await self.get(rider_id)
            # 0 may stand for none, too: better one fix twice than one lost.
            return -1 if live is None else live.last_seq or -1
        known = await self._do("HGET", self._counters, rider_id)
        return -1 if known is None else dict(_counts(known)).get(counter, -1)

    async def _count(self, rows: list[FixRow]) -> None:
        highest: dict[tuple[str, str], int] = {}
        for row in rows:
            if row.counter:
                key = row.rider_id, row.counter
                highest[key] = max(row.seq, highest.get(key, 0))
        flat = [text for (rider, counter), seq in highest.items() for text in (rider, counter, seq)]
        for first in range(0, len(flat), 3 * RIDERS_A_CALL_MAX):
            some = flat[first : first + 3 * RIDERS_A_CALL_MAX]
            await self._call(_COUNT_SHA, _COUNT, (self._counters,), COUNTERS_MAX, *some)

    async def riders(self) -> list[Live]:
        """Everyone's newest fix, however old, removed riders included."""
        records = await self._do("HGETALL", self._riders)
        return [_unpack(rider_id.decode(), record) for rider_id, record in records.items()]

    async def last_frame_id(self) -> str:
        """The id of the stream's newest frame, "0-0" when it is empty."""
        entries = await self._do("XREVRANGE", self._stream, "+", "-", "COUNT", 1)
        return str(entries[0][0].decode()) if entries else "0-0"

    async def frames(
        self, after: str, block_ms: int = 500, rest_s: float = 0.0
    ) -> AsyncIterator[tuple[str, Frame]]:
        """The stream's frames behind the id `after`, with their ids, without end.

        Frames that the stream's cap has dropped are skipped, so are those of another form. Who can
        wait `rest_s` for the next ones gets several at a time, for one question.
        """
        while True:
            reply = await self._redis.xread(
                {self._stream: after}, count=FRAMES_A_READ, block=block_ms
            )
            end_if_cancelled()
            entries = _entries(reply)
            for frame_id, data in entries:
                after = frame_id
                try:
                    frame = _frame(data)
                except (msgspec.DecodeError, UnicodeError) as error:
                    log.error("frame_unreadable", id=after, error=str(error))
                    continue
                yield after, frame
            if rest_s and len(entries) < FRAMES_A_READ:
                await asyncio.sleep(rest_s)

    async def _in_cells(self, cells: list[str], oldest_ms: int) -> list[Live]:
        keys = (self._riders,)
        flat = await self._call(_NEAR_SHA, _NEAR, keys, oldest_ms, *(c.zfill(16) for c in cells))
        return [_unpack(flat[i].decode(), flat[i + 1]) for i in range(0, len(flat), 2)]

    async def _call(self, sha: str, text: str, keys: tuple[str, ...], *args: Any) -> Any:
        rest = (len(keys), *keys, self._cells, *args)
        try:
            return await self._do("EVALSHA", sha, *rest)
        except NoScriptError:
            return await self._do("EVAL", text, *rest)


def _sha(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


_FLUSH_SHA, _NEAR_SHA, _REMOVE_SHA = _sha(_FLUSH), _sha(_NEAR), _sha(_REMOVE)
_COUNT_SHA = _sha(_COUNT)


def _newest(rows: list[FixRow]) -> list[str | bytes]:
    """Rider id and packed record by turns: one for each rider of the batch."""
    newest: dict[str, FixRow] = {}
    last_seq: dict[str, int] = {}
    for row in rows:
        known = newest.get(row.rider_id)
        if known is None or (row.at_ms, row.seq) > (known.at_ms, known.seq):
            newest[row.rider_id] = row
        last = 0 if row.counter else row.seq
        last_seq[row.rider_id] = max(last, last_seq.get(row.rider_id, 0))
    packed: list[str | bytes] = []
    for rider_id, row in newest.items():
        cell = to_text(cell_of(row.lat, row.lon)).zfill(16).encode()
        packed += (
            rider_id,
            _RECORD.pack(
                row.at_ms,
                row.seq,
                last_seq[rider_id],
                row.at_ms,
                cell,
                row.lat,
                row.lon,
                _or_nan(row.accuracy_m),
                _or_nan(row.speed_mps),
                _or_nan(row.heading_deg),
            ),
        )
    return packed


def _unpack(rider_id: str, record: bytes) -> Live:
    at_ms, seq, last_seq, _, cell, lat, lon, *rest = _RECORD.unpack(record)
    accuracy, speed, heading = (None if math.isnan(x) else x for x in rest)
    return Live(
        rider_id, at_ms, seq, last_seq, lat, lon, accuracy, speed, heading, cell != _NOWHERE
    )


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _frame_of(rows: list[FixRow], ref: Ref) -> Frame:
    return Frame(
        segment=ref.name,
        offset=ref.offset,
        length=ref.length,
        rows=[FrameRow(r.rider_id, r.seq, r.at_ms, r.lat, r.lon, r.heading_deg) for r in rows],
    )


def _entries(reply: Any) -> list[tuple[str, bytes]]:
    """The frames in a reply to XREAD, whose form differs by protocol: a map or a list."""
    if isinstance(reply, dict):
        entries = [entry for parts in reply.values() for part in parts for entry in part]
    else:
        entries = [entry for _, part in reply or () for entry in part]
    return [(entry_id.decode(), fields[b"f"]) for entry_id, fields in entries]


def _shortest_edge_m(cell: int) -> float:
    corners = boundary_of(cell)
    sides = pairwise((*corners, corners[0]))
    return min(haversine_m(*a, *b) for a, b in sides)
