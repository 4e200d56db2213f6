"""One client's connection: carries the effects of its session out; may import websockets.

Three tasks at most: the reader, the writer that empties the outbox, and one that runs the rider's
actions in order, so that a slow database does not hold up his fixes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from api import messages as m
from api.auth import Claims, Role
from api.cancelling import end_if_cancelled
from api.clock import now_ms
from api.gateway.audience import Audience, View
from api.gateway.city_map import CityMap
from api.gateway.ingest import Ingest, Taken
from api.gateway.marks import Watermarks
from api.gateway.outbox import Outbox
from api.gateway.publish import Publisher
from api.guard import Guard
from api.rates import Limit, Rates
from api.session import (
    Authenticate,
    Close,
    CloseCode,
    Effect,
    Run,
    Send,
    Session,
    StoreFixes,
    Watch,
    Watermark,
)
from api.store import UNAVAILABLE, Store
from geo.errors import Conflict, NotFound, RateLimited, Unauthorised, Unavailable

log = structlog.get_logger(__name__)

HELLO_S = 10.0
ACTIONS_MAX = 32
CLOSE_S = 3.0

# Only the newest of these is worth sending.
_LATEST: dict[type[m.Told], str] = {m.Ack: "ack", m.Route: "route"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the connections of a gateway share."""

    guard: Guard
    store: Store
    marks: Watermarks
    ingest: Ingest
    audience: Audience
    publisher: Publisher
    city_map: CityMap
    rates: Rates | None = None


class Connection:
    """Reads frames into a `Session` and carries out what it says, until the socket is closed."""

    def __init__(
        self,
        socket: ServerConnection,
        session: Session,
        codec: m.Codec,
        parts: Parts,
        address: str = "unknown",
    ) -> None:
        self.session = session
        self.rider_id: str | None = None
        self.route: m.Route | None = None
        self._socket, self._codec, self._parts = socket, codec, parts
        self._address = address
        self._outbox = Outbox()
        self._close: Close | None = None
        self._mark = Watermark()
        self._actions: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(ACTIONS_MAX)
        self._worker: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._deaf = False
        self.gone = asyncio.Event()

    @property
    def view(self) -> View:
        """How this client is told."""
        return View(self.session.system, self._codec)

    async def serve(self) -> None:
        """Until the socket is closed, by whomever."""
        audience = self._parts.audience
        audience.everyone.add(self)
        hello = asyncio.get_running_loop().call_later(HELLO_S, self._no_hello)
        writer = asyncio.create_task(self._write())
        try:
            # Goes on reading while it closes: a peer with full buffers would never answer a close.
            async for frame in self._socket:
                await self._outbox.room()
                if not self._deaf:
                    await self._carry_out(self.session.receive(frame, now_ms()))
        except ConnectionClosed:
            pass
        finally:
            hello.cancel()
            if self._timer is not None:
                self._timer.cancel()
            audience.leave(self)
            tasks = [t for t in (writer, self._worker, self._closing) if t is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            audience.leave(self)  # an action that ended late may have brought it in again
            self.gone.set()

    # --- to the client ------------------------------------------------------------------------

    def tell(self, message: m.Told) -> None:
        """Queue a message for this client alone."""
        frame = self._codec.encode(message)
        key = _LATEST.get(type(message))
        if key is None:
            self.push(frame)
        else:
            self._outbox.latest(key, frame)

    def push(self, frame: bytes) -> None:
        """Queue an encoded event. A client who has too many waiting is closed and has to resume."""
        if self._closing is None and not self._outbox.event(frame):
            log.warning("client_too_slow", session=self.session.id, rider_id=self.rider_id)
            self.session.end(CloseCode.RESUME, "", now_ms())
            close = Close(CloseCode.RESUME, "resume: too many messages were waiting")
            self._closing = asyncio.create_task(self._shut(close))
            self._outbox.close()

    def push_latest(self, key: str, frame: bytes) -> None:
        """Queue an encoded value, in place of the one of its key that still waits."""
        self._outbox.latest(key, frame)

    def waits(self, key: str) -> bool:
        """Whether a value of this key has not left yet."""
        return self._outbox.waits(key)

    def forget(self, key: str) -> None:
        """Do not send the value of this key that still waits."""
        self._outbox.forget(key)

    def end(self, code: int, reason: str) -> None:
        """Acknowledge what is stored, send what is queued, and close."""
        self._carry_out_now(self.session.end(code, reason, now_ms()))

    def look_again(self) -> None:
        """End it if its token has been revoked since."""
        claims = self.session.claims
        if claims is None or not self.session.is_open:
            return
        try:
            self._parts.guard.check(claims)
        except Unauthorised as error:
            self.end(CloseCode.UNAUTHORISED, str(error))
        except Unavailable as error:
            self.end(CloseCode.INTERNAL_ERROR, str(error))

    def deafen(self) -> None:
        """Take no more frames; whoever sent them was not told that they are stored."""
        self._deaf = True

    def abort(self) -> None:
        """Drop the socket at once."""
        self._socket.transport.abort()

    # --- fixes --------------------------------------------------------------------------------

    def fixes_stored(self) -> None:
        """The rider's watermark has risen."""
        self._carry_out_now(self.session.stored(now_ms()))
        self._tick_later()

    def fixes_lost(self) -> None:
        """The rider's watermark has failed."""
        self._carry_out_now(self.session.not_stored())

    # --- the timer ----------------------------------------------------------------------------

    def _tick_later(self) -> None:
        """One timer, for what the session has due first."""
        due = self.session.due_ms
        if due is None:
            return
        if self._timer is not None:
            if self._timer_ms <= due:
                return
            self._timer.cancel()
        wait_s = max(0.0, (due - now_ms()) / 1000)
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._tick)
        self._timer_ms = due

    def _tick(self) -> None:
        self._timer = None
        self._carry_out_now(self.session.tick(now_ms()))
        self._tick_later()

    # --- effects ------------------------------------------------------------------------------

    async def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send() | Close():
                    self._carry_out_now([effect])
                case StoreFixes(rows=rows, epoch=epoch):
                    assert self.rider_id is not None
                    await self._parts.ingest.put(Taken(self.rider_id, self._mark, epoch, rows))
                case Authenticate(token=token):
                    await self._authenticate(token)
                case Run():
                    self._act(lambda run=effect: self._run(run), effect.action_id)  # type: ignore[misc]
                case Watch(orders=orders):
                    self._act(lambda ids=orders: self._parts.publisher.watch(self, ids))  # type: ignore[misc]
                case _:
                    self._parts.city_map.watch(self)
        self._tick_later()

    def _carry_out_now(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                self.tell(effect.message)
            elif isinstance(effect, Close):
                self._close = effect
                self._outbox.close()

    async def _authenticate(self, token: str) -> None:
        claims = await self._claims(token)
        if claims is None:
            return
        mark, rider = Watermark(), None
        if claims.role is Role.RIDER:
            try:
                rider = await self._parts.store.rider(claims.sub)
            except UNAVAILABLE as error:
                end_if_cancelled()
                log.warning("rider_unknown", rider_id=claims.sub, error=str(error))
                self.end(CloseCode.INTERNAL_ERROR, "riders cannot be read now; connect again")
                return
            mark = await self._parts.marks.of(claims.sub)
        self._carry_out_now(self.session.admit(claims, mark, now_ms(), rider))
        self.look_again()  # it may have been revoked while the rider was looked up
        if not self.session.is_open or rider is None:
            return
        self._mark, self.rider_id = mark, claims.sub
        before = self._parts.audience.seat_rider(claims.sub, self)
        if before is not None:
            before.end(CloseCode.SUPERSEDED, "this rider has connected again")
        self._act(lambda: self._parts.publisher.greet(self, claims.sub))

    async def _claims(self, token: str) -> Claims | None:
        """The claims of a good token, counted; None after saying what is wrong with it."""
        guard, rates = self._parts.guard, self._parts.rates
        try:
            try:
                claims = guard.token(token)
            except Unauthorised as error:
                if rates is not None and not error.genuine:
                    await rates.hit(Limit.STRANGER, self._address)
                raise
            if rates is not None:
                await rates.hit(Limit.SUBJECT, claims.holder)
        except Unauthorised as error:
            self._carry_out_now(self.session.refuse(str(error)))
        except RateLimited as error:
            self._carry_out_now(self.session.slow_down(str(error)))
        except Unavailable as error:
            self.end(CloseCode.INTERNAL_ERROR, str(error))
        else:
            return claims
        return None

    def _act(self, action: Callable[[], Awaitable[None]], action_id: str | None = None) -> None:
        if self._worker is None:
            self._worker = asyncio.create_task(self._work())
        try:
            self._actions.put_nowait(action)
        except asyncio.QueueFull:
            busy = f"{ACTIONS_MAX} actions of this connection wait already"
            if action_id is not None:
                self.tell(m.Result(action_id=action_id, ok=False, code="busy", message=busy))
            else:
                expected = "fewer frames at once"
                self.tell(
                    m.Error(code="busy", field="type", value=None, expected=expected, message=busy)
                )

    async def _work(self) -> None:
        while True:
            action = await self._actions.get()
            try:
                await action()
            except UNAVAILABLE as error:
                end_if_cancelled()
                log.warning("store_unavailable", error=str(error))
                self._unavailable()
            except Exception:
                log.exception("action_broken", session=self.session.id)
                self.end(CloseCode.INTERNAL_ERROR, "the server failed; connect again")
                return

    def _unavailable(self) -> None:
        self.tell(
            m.Error(
                code="unavailable",
                field="type",
                value=None,
                expected="the same again, in some seconds",
                message="orders cannot be read now",
            )
        )

    async def _run(self, effect: Run) -> None:
        ok, code, message = False, "", ""
        try:
            outcome = await self._parts.store.run(
                effect.order_id, effect.command, action_id=effect.action_id
            )
            if outcome.refusal is None:
                ok, code = True, "ok"
            else:
                code, message = outcome.refusal.code, outcome.refusal.message
        except NotFound as error:
            code, message = "not_found", str(error)
        except Conflict as error:
            code, message = "conflict", str(error)
        except UNAVAILABLE as error:
            end_if_cancelled()
            log.warning("action_failed", order_id=effect.order_id, error=str(error))
            code, message = "unavailable", "send it again with the same action_id"
        self.tell(m.Result(action_id=effect.action_id, ok=ok, code=code, message=message))

    # --- endings ------------------------------------------------------------------------------

    def _no_hello(self) -> None:
        if self.session.claims is None:
            self._carry_out_now(self.session.refuse(f"no hello within {HELLO_S:.0f} s"))

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while (frame := await self._outbox.get()) is not None:
                await self._socket.send(frame, text=self._codec.text)
            if self._close is not None:
                await self._shut(self._close)

    async def _shut(self, close: Close) -> None:
        """Close, and do not wait for a peer who reads nothing."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(close.code, close.reason)
        except TimeoutError:
            self.abort()
