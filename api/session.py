"""One client's stream without I/O: frames in, effects out; may import messages, dispatch and geo.

A driver hands over each frame with the server's time and carries out the effects in order. It
answers `Authenticate` with `admit` or `refuse`, tells the rider's `Watermark` and then the session
what became of `StoreFixes`, and calls `tick` when `due_ms` has come. No frame, whatever its bytes,
makes a session raise: it is answered by an error that names the field, or by a close code.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any, Protocol

import msgspec
import numpy as np

from api import messages as m
from api.auth import Claims, Role
from api.personal import without_numbers
from dispatch import commands as c
from dispatch.model import Order
from geo.datum import System, to_wgs84

ACK_EVERY_MS = 1000
FUTURE_MAX_MS = 60_000
AGE_MAX_MS = 24 * 3_600_000
# RFC 6455, 5.5: a close frame holds 125 bytes, two of them the code.
REASON_BYTES_MAX = 123


class CloseCode(IntEnum):
    """Why the server closes; the numbers from 4400 on are ours."""

    TOO_LARGE = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_FRAME = 4400
    UNAUTHORISED = 4401
    FORBIDDEN = 4403
    RESUME = 4408
    SUPERSEDED = 4409
    RATE_LIMITED = 4429


class Registered(Protocol):
    """What a rider's registration says of him."""

    @property
    def tenant(self) -> str: ...

    @property
    def city(self) -> str: ...


# --- effects ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    message: m.Told


@dataclass(frozen=True, slots=True)
class Close:
    """Send what is queued, then close with this code; nothing follows."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Check the token and answer with `admit` or `refuse` before the next frame."""

    token: str


@dataclass(frozen=True, slots=True)
class StoreFixes:
    """Store the rows, in this order; `epoch` is the watermark's when they were taken."""

    rows: list[m.FixRow]
    epoch: int


@dataclass(frozen=True, slots=True)
class Run:
    """Run the command on the order and send a `result`; `action_id` makes it happen once."""

    order_id: str
    command: c.Command
    action_id: str


@dataclass(frozen=True, slots=True)
class Watch:
    """Follow these orders and no others, as far as `may_see` lets."""

    orders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class WatchCity:
    """Send the city and then what changes in it."""


Effect = Send | Close | Authenticate | StoreFixes | Run | Watch | WatchCity


@dataclass(slots=True)
class Watermark:
    """How far a rider's fixes have come: `taken` for storing, `stored` on the disk; -1 for none.

    There is one for each counter of his. A rider's sessions share it one after the other. When
    fixes could not be stored the epoch grows: what was taken in an older epoch is no longer waited
    for and may be sent again.
    """

    stored: int = -1
    taken: int = -1
    epoch: int = 0

    def settle(self, seq: int, epoch: int) -> bool:
        """All fixes up to `seq`, taken in `epoch`, are on the disk; False for an older epoch."""
        if epoch != self.epoch:
            return False
        self.stored = max(self.stored, seq)
        return True

    def fail(self, epoch: int) -> bool:
        """Fixes taken in `epoch` were lost; False when that is known."""
        if epoch != self.epoch:
            return False
        self.epoch, self.taken = self.epoch + 1, self.stored
        return True


class _State(Enum):
    HELLO = "waits for hello"
    ADMISSION = "waits for admit or refuse"
    OPEN = "open"
    CLOSED = "closed"


_RIDER = (m.Fixes, m.Accept, m.Decline, m.Claim, m.Stop, m.Heartbeat)
_VIEWER = (m.Watch, m.Heartbeat)
_FRAMES: dict[Role, tuple[type, ...]] = {
    Role.RIDER: _RIDER,
    Role.CUSTOMER: _VIEWER,
    Role.MERCHANT: _VIEWER,
    Role.OPERATOR: (*_VIEWER, m.WatchCity),
    Role.INTEGRATOR: _VIEWER,
}


class Session:
    """The state of one connection. `token` is the one of the upgrade, if any.

    `repeated` and `refused` count fixes, for whoever takes them away.
    """

    def __init__(
        self, session_id: str, cities: Collection[str], codec: m.Codec, token: str | None = None
    ):
        self.id = session_id
        self.claims: Claims | None = None
        self.system = System.GCJ02
        self.counter = ""
        self.repeated = self.refused = 0
        self._cities, self._codec, self._token = cities, codec, token
        self._state = _State.HELLO
        self._asked_system: System | None = None
        self._mark = Watermark()
        # The first fix that was lost: nothing behind it is taken before it has come again.
        self._lost: int | None = None
        self._ack_wanted = False
        self._acked_ms: int | None = None

    @property
    def is_open(self) -> bool:
        """Admitted and not closed."""
        return self._state is _State.OPEN

    def receive(self, frame: str | bytes, now_ms: int) -> list[Effect]:
        """The effects of one frame that came at `now_ms`; none once closed. Never raises."""
        if self._state is _State.CLOSED:
            return []
        if self._is_over(now_ms):
            return self._expire(now_ms)
        if len(frame) > m.FRAME_BYTES_MAX:
            return self._close(
                CloseCode.TOO_LARGE, f"a frame has at most {m.FRAME_BYTES_MAX} bytes"
            )
        if isinstance(frame, str) is not self._codec.text:
            kind = "text" if self._codec.text else "binary"
            return self._close(CloseCode.BAD_FRAME, f"{self._codec.subprotocol} has {kind} frames")
        try:
            asked = self._codec.decode(frame)
        except msgspec.ValidationError as error:
            return self._explained(str(error), frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return self._close(CloseCode.BAD_FRAME, f"the frame is not {self._codec.subprotocol}")
        if self._state is not _State.OPEN:
            return self._hello(asked)
        assert self.claims is not None
        if isinstance(asked, m.Hello):
            return [Send(_wrong("type", "hello", "another frame: this session is open"))]
        if not isinstance(asked, _FRAMES[self.claims.role]):
            return self._forbidden("type", m.frame_type(type(asked).__name__), self.claims.role)
        return self._open(asked, self.claims.sub, now_ms)

    def admit(
        self, claims: Claims, mark: Watermark, now_ms: int, rider: Registered | None = None
    ) -> list[Effect]:
        """The token is good; nothing once closed.

        `mark` is the rider's, shared with his earlier sessions here, and `rider` he himself, if
        he is registered: another tenant's token does not make its holder him.
        """
        if self._state is not _State.ADMISSION:
            return []
        if claims.city not in self._cities:
            return self._forbidden("token.city", claims.city, ", ".join(sorted(self._cities)))
        if claims.role is Role.RIDER:
            if rider is None:
                expected = "a registered rider: register first"
                return self._forbidden("token.sub", claims.sub, expected)
            if (rider.tenant, rider.city) != (claims.tenant, claims.city):
                expected = "the tenant and city that registered this rider"
                return self._forbidden("token.tenant", claims.tenant, expected)
        self.claims, self._mark, self._state = claims, mark, _State.OPEN
        default = System.WGS84 if claims.role is Role.OPERATOR else System.GCJ02
        self.system = self._asked_system or default
        return [
            Send(
                m.Welcome(
                    session=self.id,
                    role=claims.role,
                    subject=claims.sub,
                    server_ms=now_ms,
                    last_seq=mark.stored,
                    system=self.system,
                )
            )
        ]

    def refuse(self, why: str) -> list[Effect]:
        """There is no good token, or no hello came in time."""
        return self._close(CloseCode.UNAUTHORISED, why)

    def forbid(self, field: str, value: str, expected: str) -> list[Effect]:
        """What he said of himself has turned out to be wrong."""
        return self._forbidden(field, value, expected)

    def slow_down(self, why: str) -> list[Effect]:
        """He comes too often."""
        return self._close(CloseCode.RATE_LIMITED, why)

    def end(self, code: int, reason: str, now_ms: int) -> list[Effect]:
        """The server ends the session; a stored fix that is not acknowledged yet is, first."""
        last: list[Effect] = []
        if self.is_open and self._ack_wanted:
            last = [Send(m.Ack(seq=self._mark.stored, server_ms=now_ms))]
        return last + self._close(code, reason)

    def stored(self, now_ms: int) -> list[Effect]:
        """The watermark has risen."""
        self._ack_wanted = True
        return self.tick(now_ms)

    def not_stored(self, seq: int) -> list[Effect]:
        """The watermark has failed: what is not acknowledged, from `seq` on, is to be sent again.

        Fixes behind `seq` that are on their way are not taken: an acknowledgement of theirs would
        cover the lost one.
        """
        if not self.is_open:
            return []
        self._lost = seq
        return self._ask_again()

    def _ask_again(self) -> list[Effect]:
        again = f"the fixes after {self._mark.stored} again, in some seconds"
        error = _wrong("fixes", None, again, "not_stored", "the fixes could not be stored")
        return [Send(error)]

    @property
    def due_ms(self) -> int | None:
        """When `tick` has something to say, at the latest the token's end; None once closed."""
        if not self.is_open:
            return None
        ack_ms = self._ack_due_ms
        return self._over_ms if ack_ms is None else min(ack_ms, self._over_ms)

    def tick(self, now_ms: int) -> list[Effect]:
        """The end, if the token is over; else an acknowledgement, at most one in ACK_EVERY_MS."""
        if self._is_over(now_ms):
            return self._expire(now_ms)
        due = self._ack_due_ms
        # A clock that was set back must not hold acknowledgements.
        if due is None or due - ACK_EVERY_MS <= now_ms < due:
            return []
        self._ack_wanted, self._acked_ms = False, now_ms
        return [Send(m.Ack(seq=self._mark.stored, server_ms=now_ms))]

    def may_see(self, order: Order) -> bool:
        """Whether the order is his own: operators and integrators see those of their tenant.

        A token that is scoped to orders sees these, of its tenant.
        """
        who = self.claims
        if who is None or (order.tenant, order.city) != (who.tenant, who.city):
            return False
        if who.orders:
            return order.id in who.orders
        if who.role in (Role.OPERATOR, Role.INTEGRATOR):
            return True
        own = {Role.CUSTOMER: order.customer_id, Role.MERCHANT: order.merchant_id}.get(who.role)
        return own == who.sub

    # --- by frame -----------------------------------------------------------------------------

    def _hello(self, asked: m.ClientFrame) -> list[Effect]:
        if self._state is not _State.HELLO or not isinstance(asked, m.Hello):
            return self.refuse("the first frame must be hello, and the next waits for welcome")
        token = asked.token or self._token
        if not token:
            return self.refuse("no token in the header, the query or hello")
        self._asked_system, self._state = asked.system, _State.ADMISSION
        self.counter = asked.counter or ""
        return [Authenticate(token)]

    def _open(self, asked: m.ClientFrame, who: str, now_ms: int) -> list[Effect]:
        match asked:
            case m.Fixes(fixes=fixes):
                return self._fixes(fixes, who, now_ms)
            case m.Accept():
                accept = c.Accept(at_ms=now_ms, rider_id=who, number=asked.number)
                return [Run(asked.order_id, accept, asked.action_id)]
            case m.Decline():
                why = without_numbers(asked.reason)
                decline = c.Decline(at_ms=now_ms, rider_id=who, number=asked.number, reason=why)
                return [Run(asked.order_id, decline, asked.action_id)]
            case m.Claim():
                return [Run(asked.order_id, c.Claim(at_ms=now_ms, rider_id=who), asked.action_id)]
            case m.Stop():
                return self._stop(asked, who, now_ms)
            case m.Watch():
                return [Watch(tuple(dict.fromkeys(asked.orders)))]
            case m.WatchCity():
                return [WatchCity()]
            case _:
                return self.stored(now_ms)  # a heartbeat is answered like a fix

    def _fixes(self, fixes: list[m.Fix], who: str, now_ms: int) -> list[Effect]:
        wrong = _check_fixes(fixes, now_ms)
        if wrong is not None:
            self.refused += len(fixes)
            return [Send(wrong)]
        mark = self._mark
        if self._lost is not None and fixes and fixes[0].seq > self._lost:
            self.refused += len(fixes)
            return self._ask_again()
        self._lost = None
        fresh = [fix for fix in fixes if fix.seq > mark.taken]
        self.repeated += len(fixes) - len(fresh)
        effects: list[Effect] = []
        if fresh:
            mark.taken = fresh[-1].seq
            effects.append(StoreFixes(_rows(who, self.counter, fresh), mark.epoch))
        return effects if len(fresh) == len(fixes) else effects + self.stored(now_ms)

    def _stop(self, asked: m.Stop, who: str, now_ms: int) -> list[Effect]:
        if asked.state == "failed" and not asked.reason:
            return [Send(_wrong("reason", asked.reason, "why the stop could not be served"))]
        command: c.Command
        at_stop = {"at_ms": now_ms, "rider_id": who, "stop": asked.stop, "device_ms": asked.at_ms}
        match asked.state:
            case "heading":
                command = c.Head(**at_stop)  # type: ignore[arg-type]
            case "arrived":
                command = c.Arrive(**at_stop)  # type: ignore[arg-type]
            case "done":
                command = c.FinishStop(**at_stop)  # type: ignore[arg-type]
            case "failed":
                why = without_numbers(asked.reason)
                command = c.FailStop(reason=why, **at_stop)  # type: ignore[arg-type]
        return [Run(asked.order_id, command, asked.action_id)]

    # --- what is due --------------------------------------------------------------------------

    @property
    def _ack_due_ms(self) -> int | None:
        if not (self._ack_wanted and self.is_open):
            return None
        return 0 if self._acked_ms is None else self._acked_ms + ACK_EVERY_MS

    @property
    def _over_ms(self) -> int:
        assert self.claims is not None
        return self.claims.exp * 1000

    def _is_over(self, now_ms: int) -> bool:
        """Open, but not by a token that is good."""
        return self.is_open and now_ms >= self._over_ms

    # --- endings ------------------------------------------------------------------------------

    def _expire(self, now_ms: int) -> list[Effect]:
        return self.end(CloseCode.UNAUTHORISED, "token expired", now_ms)

    def _close(self, code: int, reason: str) -> list[Effect]:
        if self._state is _State.CLOSED:
            return []
        self._state = _State.CLOSED
        short = reason.encode()[:REASON_BYTES_MAX].decode(errors="ignore")
        return [Close(code, short)]

    def _forbidden(self, field: str, value: str, expected: str) -> list[Effect]:
        error = _wrong(field, value, expected, "forbidden")
        return [Send(error), *self._close(CloseCode.FORBIDDEN, error.message)]

    def _explained(self, why: str, frame: str | bytes) -> list[Effect]:
        try:
            whole = self._codec.decode_any(frame)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return self._close(CloseCode.BAD_FRAME, f"the frame is not {self._codec.subprotocol}")
        if self._state is not _State.OPEN and _at(whole, "type") != "hello":
            return self.refuse("the first frame must be hello")
        return [Send(_explain(why, whole))]


# --- fixes ------------------------------------------------------------------------------------


def _check_fixes(fixes: list[m.Fix], now_ms: int) -> m.Error | None:
    """The first fix that cannot be right, beyond what its form says."""
    latest_ms, earliest_ms = now_ms + FUTURE_MAX_MS, now_ms - AGE_MAX_MS
    previous = -1
    for i, fix in enumerate(fixes):
        if fix.seq <= previous:
            more = f"more than {previous}: seq strictly increases in a frame"
            return _wrong(f"fixes[{i}].seq", fix.seq, more, "out_of_order")
        previous = fix.seq
        if fix.at_ms > latest_ms:
            return _wrong(f"fixes[{i}].at_ms", fix.at_ms, f"at most {latest_ms}: 60 s from now")
        if fix.at_ms < earliest_ms:
            return _wrong(f"fixes[{i}].at_ms", fix.at_ms, f"at least {earliest_ms}: 24 h ago")
    return None


def _rows(rider_id: str, counter: str, fixes: list[m.Fix]) -> list[m.FixRow]:
    """The fixes in WGS-84, each system converted at once."""
    points = [(fix.lat, fix.lon) for fix in fixes]
    for system in {fix.system for fix in fixes} - {System.WGS84}:
        where = [i for i, fix in enumerate(fixes) if fix.system is system]
        given = np.array([points[i] for i in where])
        lats, lons = to_wgs84(given[:, 0], given[:, 1], system)
        # Next to a pole or the antimeridian an offset may leave the range of degrees.
        lats, lons = np.clip(lats, -90.0, 90.0), np.clip(lons, -180.0, 180.0)
        for i, lat, lon in zip(where, lats.tolist(), lons.tolist(), strict=True):
            points[i] = (lat, lon)
    return [
        m.FixRow(
            rider_id,
            fix.seq,
            fix.at_ms,
            lat,
            lon,
            fix.accuracy_m,
            fix.speed_mps,
            fix.heading_deg,
            fix.system.value,
            counter,
        )
        for fix, (lat, lon) in zip(fixes, points, strict=True)
    ]


# --- errors -----------------------------------------------------------------------------------

_PLACE = re.compile(r" - at `([^`]*)`(?: in `([^`]*)`)?$")
_FIELD = re.compile(r"Object (missing required|contains unknown) field `(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_EXPECTED = {
    "type": "one of " + ", ".join(sorted(m.frame_type(t.__name__) for t in m.CLIENT_FRAMES)),
    "system": "one of " + ", ".join(System),
    "state": "one of heading, arrived, done, failed",
    "lat": "degrees from -90 to 90",
    "lon": "degrees from -180 to 180",
}


def _wrong(
    field: str, value: object, expected: str, code: str = "invalid_value", what: str = ""
) -> m.Error:
    shown = _shown(value)
    what = what or f"{field}: {shown!r} is not valid"
    message = f"{what}, expected {expected}"
    return m.Error(code=code, field=field, value=shown, expected=expected, message=message)


def _explain(why: str, whole: Any) -> m.Error:
    """msgspec's message on the decoded frame `whole`, with the field, its value and the remedy."""
    place = _PLACE.search(why)
    path = (place[2] or place[1] if place else "$")[1:]
    text = why[: place.start()] if place else why
    missing = _FIELD.match(text)
    if missing:
        path = f"{path}.{missing[2]}"
    steps = [name or int(index) for name, index in _STEP.findall(path)]
    value: Any = whole
    for step in steps:
        value = _at(value, step)
    leaf = str(steps[-1]) if steps else ""
    if missing and missing[1] == "contains unknown":
        expected = "no such field in this frame"
    elif leaf in _EXPECTED:
        expected = _EXPECTED[leaf]
    elif missing:
        expected = "a value: the field is required"
    else:
        expected = text.removeprefix("Expected ").replace("`", "")
    return _wrong(path.lstrip(".") or "frame", value, expected)


def _at(value: Any, step: str | int) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _shown(value: object) -> str | int | float | bool | None:
    """The value as any client can read it; long ones are cut."""
    if isinstance(value, bool | None) or (isinstance(value, int) and abs(value) <= m.INT_MAX):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if isinstance(value, dict | list):
        return f"{'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    return str(value)[:100]
