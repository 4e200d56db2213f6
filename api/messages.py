"""The frames of the websocket stream as msgspec structs; may import msgspec and geo's systems.

A frame is one object with its name in `type`. Frames from a client are strict: an unknown field
is an error. Two encodings, chosen by sub-protocol: `hexrun.v1.json` in text frames (the default)
and `hexrun.v1.msgpack` in binary frames. Instants are ms UTC, coordinates degrees in the system
that the client asked for, money fen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from geo.datum import System

FRAME_BYTES_MAX = 64 * 1024
FIXES_MAX = 200
WATCHED_MAX = 50
# The largest integer that JavaScript holds exactly.
INT_MAX = 2**53 - 1

# No database text holds U+0000.
Id = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00]*$")]
Text = Annotated[str, Meta(max_length=200, pattern=r"^[^\x00]*$")]
Count = Annotated[int, Meta(ge=0, le=INT_MAX)]
Latitude = Annotated[float, Meta(ge=-90, le=90)]
Longitude = Annotated[float, Meta(ge=-180, le=180)]


def frame_type(name: str) -> str:
    """`WatchCity` -> `"watch_city"`: the class name is the frame's `type`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")


# --- from a client ----------------------------------------------------------------------------


class Asked(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="type",
    tag=frame_type,
):
    """Base of every frame from a client."""


class Hello(Asked, frozen=True, kw_only=True):
    """The first frame. The token may also come in the header or the query of the upgrade.

    `counter` names the phone's count of its fixes, anew whenever it counts from 0 again.
    """

    token: Annotated[str, Meta(max_length=4096)] | None = None
    system: System | None = None
    counter: Id | None = None


class Fix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPS reading, numbered by the phone in the order of recording."""

    seq: Count
    at_ms: Count
    lat: Latitude
    lon: Longitude
    system: System
    accuracy_m: Annotated[float, Meta(ge=0, le=1e6)] | None = None
    speed_mps: Annotated[float, Meta(ge=0, le=1e3)] | None = None
    heading_deg: Annotated[float, Meta(ge=0, le=360)] | None = None


class Fixes(Asked, frozen=True, kw_only=True):
    fixes: Annotated[list[Fix], Meta(min_length=1, max_length=FIXES_MAX)]


class Heartbeat(Asked, frozen=True, kw_only=True):
    """A rider who stands still is not lost; any client may ask whether the line is alive."""


class Accept(Asked, frozen=True, kw_only=True):
    action_id: Id
    order_id: Id
    number: Count


class Decline(Asked, frozen=True, kw_only=True):
    action_id: Id
    order_id: Id
    number: Count
    reason: Text = ""


class Claim(Asked, frozen=True, kw_only=True):
    """A rider grabs an order from the hall."""

    action_id: Id
    order_id: Id


class Stop(Asked, frozen=True, kw_only=True):
    """A rider's report on a stop; `at_ms` is the phone's time."""

    action_id: Id
    order_id: Id
    stop: Count
    state: Literal["heading", "arrived", "done", "failed"]
    at_ms: Count
    reason: Text = ""


class Watch(Asked, frozen=True, kw_only=True):
    """Follow these orders and no others."""

    orders: Annotated[list[Id], Meta(max_length=WATCHED_MAX)]


class WatchCity(Asked, frozen=True, kw_only=True):
    pass


ClientFrame = Hello | Fixes | Heartbeat | Accept | Decline | Claim | Stop | Watch | WatchCity
CLIENT_FRAMES = (Hello, Fixes, Heartbeat, Accept, Decline, Claim, Stop, Watch, WatchCity)

# --- to a client ------------------------------------------------------------------------------


class Told(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag=frame_type):
    """Base of every frame to a client."""


class Welcome(Told, frozen=True, kw_only=True):
    """`last_seq` is the highest fix stored for this rider, -1 for none; go on from the next."""

    session: str
    role: str
    subject: str
    server_ms: int
    last_seq: int
    system: System


class Ack(Told, frozen=True, kw_only=True):
    """Every fix up to `seq` is stored."""

    seq: int
    server_ms: int


class StopView(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    lat: float
    lon: float
    state: str


class RouteStopView(msgspec.Struct, frozen=True, kw_only=True):
    """A stop to serve; `earliest_ms` is None when it is open at any time.

    `text` is its address, empty while the order is only offered.
    """

    order_id: str
    stop: int
    kind: str
    lat: float
    lon: float
    earliest_ms: int | None
    state: str
    text: str


class Offer(Told, frozen=True, kw_only=True):
    """An order for this rider until `deadline_ms`; `route` is his whole route with it."""

    order_id: str
    number: int
    deadline_ms: int
    price_fen: int
    stops: list[RouteStopView]
    route: list[RouteStopView]


class OfferOver(Told, frozen=True, kw_only=True):
    """Attempt `number` is no longer this rider's: declined, timed_out, withdrawn, dropped, ..."""

    order_id: str
    number: int
    reason: str


class Route(Told, frozen=True, kw_only=True):
    """The rider's remaining stops, in order."""

    stops: list[RouteStopView]


class Result(Told, frozen=True, kw_only=True):
    """What became of an action; `code` is `ok` or why not."""

    action_id: str
    ok: bool
    code: str
    message: str


class Order(Told, frozen=True, kw_only=True):
    """`code` is of the WeChat list; `rider_id` is set once a rider has accepted."""

    order_id: str
    version: int
    state: str
    code: str
    rider_id: str | None
    promise_to_ms: int
    stops: list[StopView]


class Position(Told, frozen=True, kw_only=True):
    """Where the rider of an order under way is."""

    order_id: str
    rider_id: str
    lat: float
    lon: float
    at_ms: int
    heading_deg: float | None


class RiderRow(msgspec.Struct, frozen=True, array_like=True):
    """A rider on the operators' map; `state` is idle, offered, busy or off.

    `at_ms` is the phone's time of the fix, None while only the start of the shift is known.
    """

    id: str
    lat: float
    lon: float
    heading_deg: float | None
    state: str
    at_ms: int | None


class Centre(msgspec.Struct, frozen=True):
    lat: float
    lon: float


class City(Told, frozen=True, kw_only=True):
    """All that an operator sees at `server_ms`; deltas follow."""

    centre: Centre
    server_ms: int
    riders: list[RiderRow]
    orders: list[Order]


class Riders(Told, frozen=True, kw_only=True):
    """The riders that moved or changed."""

    server_ms: int
    riders: list[RiderRow]


class Orders(Told, frozen=True, kw_only=True):
    """The orders that changed."""

    orders: list[Order]


class Error(Told, frozen=True, kw_only=True):
    """`field` held `value`, `expected` says what would be right; the frame changed nothing."""

    code: str
    field: str
    value: str | int | float | bool | None
    expected: str
    message: str


class Stale(Told, frozen=True, kw_only=True):
    """What is not brought up to date now: `orders`, `positions`; nothing once all is again."""

    what: list[str]


# --- as the server keeps it -----------------------------------------------------------------


class FixRow(msgspec.Struct, frozen=True, array_like=True):
    """One fix in WGS-84 degrees; `system` is the one it was given in.

    `seq` counts in the phone's `counter`, "" for none. `on_trust` is the tenant at whose word the
    fix was taken while nobody could say whose the rider is: it is his only if that is his tenant.
    """

    rider_id: str
    seq: int
    at_ms: int
    lat: float
    lon: float
    accuracy_m: float | None = None
    speed_mps: float | None = None
    heading_deg: float | None = None
    system: str = "wgs84"
    counter: str = ""
    on_trust: str = ""


# --- encodings --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Codec:
    """One encoding. `text` says which websocket frames carry it.

    `decode` raises msgspec.ValidationError for a frame that breaks its form; `decode` and
    `decode_any` raise msgspec.DecodeError, UnicodeError or RecursionError for bytes that are no
    frame at all.
    """

    subprotocol: str
    text: bool
    encode: Callable[[Any], bytes]
    decode: Callable[[str | bytes], ClientFrame]
    decode_any: Callable[[str | bytes], Any]


JSON = Codec(
    "hexrun.v1.json",
    True,
    msgspec.json.Encoder().encode,
    msgspec.json.Decoder(ClientFrame).decode,
    msgspec.json.decode,
)
MSGPACK = Codec(
    "hexrun.v1.msgpack",
    False,
    msgspec.msgpack.Encoder().encode,
    msgspec.msgpack.Decoder(ClientFrame).decode,  # type: ignore[arg-type]
    msgspec.msgpack.decode,  # type: ignore[arg-type]
)
CODECS = {codec.subprotocol: codec for codec in (JSON, MSGPACK)}
