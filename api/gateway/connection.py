"""One client's connection: carries the effects of its session out; may import websockets.

Three tasks at most: the reader, the writer that empties the outbox, and one that runs the rider's
actions in order, so that a slow database does not hold up his fixes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from api import messages as m
from api.auth import Claims, Role
from api.cancelling import end_if_cancelled
from api.capacity import overloaded
from api.clock import now_ms
from api.gateway import counters
from api.gateway.audience import View
from api.gateway.entrance import Entrance
from api.gateway.ingest import Taken
from api.gateway.marks import Seat
from api.gateway.outbox import Outbox
from api.gateway.registry import Home
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
from api.store import UNAVAILABLE, Outcome, Store
from api.traces import on_order
from dispatch.commands import Claim, Command
from geo.errors import Conflict, NotFound, RateLimited, Unauthorised, Unavailable

if TYPE_CHECKING:
    from api.gateway.room import Room

log = structlog.get_logger(__name__)

HELLO_S = 10.0
ACTIONS_MAX = 32
CLOSE_S = 3.0
# How long the store may take to say who a rider is, and to carry out an action.
ADMIT_S = 2.0
ACTION_S = 8.0

_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Only the newest of these is worth sending.
_LATEST: dict[type[m.Told], str] = {m.Ack: "ack", m.Route: "route"}


@dataclass(frozen=True, slots=True)
class Parts:
    """What the connections of a gateway share."""

    guard: Guard
    store: Store
    rooms: Mapping[str, Room]
    everyone: set[Connection]
    entrance: Entrance
    rates: Rates


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
        self.seats: tuple[Seat, ...] = ()
        self.route: m.Route | None = None
        self._socket, self._codec, self._parts = socket, codec, parts
        self._address = address
        self._room: Room | None = None
        # The store has said that the rider is who his token says.
        self._is_sure = True
        self._outbox = Outbox()
        self._close: Close | None = None
        self._mark = Watermark()
        self._actions: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue(ACTIONS_MAX)
        self._worker: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._deaf = self._left = False
        self.gone = asyncio.Event()

    @property
    def view(self) -> View:
        """How this client is told."""
        return View(self.session.system, self._codec)

    async def serve(self) -> None:
        """Until the socket is closed, by whomever."""
        self._parts.everyone.add(self)
        hello = asyncio.get_running_loop().call_later(HELLO_S, self._no_hello)
        writer = asyncio.create_task(self._write())
        try:
            # Goes on reading while it closes: a peer with full buffers would never answer a close.
            async for frame in self._socket:
                await self._outbox.room()
                counters.FRAMES_IN.inc()
                if not self._deaf:
                    await self._carry_out(self.session.receive(frame, now_ms()))
                    self._count()
        except ConnectionClosed:
            pass
        finally:
            hello.cancel()
            if self._timer is not None:
                self._timer.cancel()
            self._leave()
            tasks = [t for t in (writer, self._worker, self._closing) if t is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._leave()  # an action that ended late may have brought it in again
            self.gone.set()

    def _leave(self) -> None:
        self._parts.everyone.discard(self)
        room, claims = self._room, self.session.claims
        if room is not None and claims is not None:
            room.leave(self)
            if not self._left:
                counters.CONNECTIONS.labels(room.name, claims.role).dec()
                self._left = True

    def _count(self) -> None:
        session = self.session
        if session.repeated:
            counters.FIXES_REPEATED.inc(session.repeated)
            session.repeated = 0
        if session.refused:
            counters.FIXES_REFUSED.inc(session.refused)
            session.refused = 0

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
            counters.SLOW_CUT.inc()
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

    async def idle(self) -> None:
        """Until every action that was read has been carried out."""
        if self._worker is not None:
            await asyncio.wait(
                [self._worker, asyncio.ensure_future(self._actions.join())],
                return_when=asyncio.FIRST_COMPLETED,
            )

    def abort(self) -> None:
        """Drop the socket at once."""
        self._socket.transport.abort()

    # --- fixes --------------------------------------------------------------------------------

    def fixes_stored(self) -> None:
        """The rider's watermark has risen."""
        self._carry_out_now(self.session.stored(now_ms()))
        self._tick_later()

    def fixes_lost(self, seq: int) -> None:
        """The rider's watermark has failed; `seq` is the first fix that was lost."""
        self._carry_out_now(self.session.not_stored(seq))

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
                    assert self._room is not None
                    if not self._is_sure:
                        rows = self._on_trust(rows)
                    await self._room.ingest.put(Taken(self.seats[-1], self._mark, epoch, rows))
                case Authenticate(token=token):
                    await self._authenticate(token)
                case Run():
                    self._act(lambda run=effect: self._run(run), effect.action_id)  # type: ignore[misc]
                case Watch(orders=orders):
                    assert self._room is not None
                    watch = partial(self._room.publisher.watch, self, orders)
                    self._act(watch)
                case _:
                    assert self._room is not None
                    self._room.city_map.watch(self)
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
        room = self._parts.rooms.get(claims.city)
        mark, home = Watermark(), None
        if room is not None and claims.role is Role.RIDER:
            home = await self._home(room, claims)
            mark = await self._mark_of(room, claims)
        if room is not None and self._refused_for_room(room, claims):
            return
        self._carry_out_now(self.session.admit(claims, mark, now_ms(), home))
        self.look_again()  # it may have been revoked while the rider was looked up
        if not self.session.is_open or room is None:
            return
        self._room = room
        room.audience.join(self)
        counters.CONNECTIONS.labels(room.name, claims.role).inc()
        if claims.role is not Role.RIDER:
            room.publisher.tell_stale(self)
            return
        self._mark, self.rider_id = mark, claims.sub
        self._sit(room, claims)
        self.greet()

    def _sit(self, room: Room, claims: Claims) -> None:
        """Take the rider's seat, and end who had it.

        On trust it is one beside it, which no other tenant's token can take, and of which nothing
        but acknowledgements is told.
        """
        beside = claims.tenant, claims.sub
        self.seats = (beside, claims.sub) if self._is_sure else (beside,)
        for seat in self.seats:
            before = room.audience.seat_rider(seat, self)
            if before is not None:
                before.end(CloseCode.SUPERSEDED, "this rider has connected again")

    async def _mark_of(self, room: Room, claims: Claims) -> Watermark:
        """The one of his counter; it stays his while he is connected."""
        if self._is_sure:
            return await room.marks.of(claims.sub, self.session.counter)
        return room.marks.on_trust(claims.holder, self.session.counter)

    def _on_trust(self, rows: list[m.FixRow]) -> list[m.FixRow]:
        """The rows with the tenant at whose word they are taken."""
        assert self.session.claims is not None
        tenant = self.session.claims.tenant
        return [msgspec.structs.replace(row, on_trust=tenant) for row in rows]

    async def _home(self, room: Room, claims: Claims) -> Home | None:
        """Where he is registered. While the store is away his token is believed, for the time."""
        try:
            async with asyncio.timeout(ADMIT_S):
                home = await room.registry.home(claims.sub)
        except UNAVAILABLE as error:
            end_if_cancelled()
            log.warning("rider_on_trust", rider_id=claims.sub, error=type(error).__name__)
            self._is_sure = False
            return Home(claims.tenant, claims.city)
        self._is_sure = True
        return home

    def _refused_for_room(self, room: Room, claims: Claims) -> bool:
        """Tells him to come later, where others have to come first."""
        parts = self._parts
        busy = claims.role is Role.RIDER and room.busy(claims.sub)
        what = parts.entrance.full_for(claims.role, busy, len(parts.everyone))
        if what is None:
            return False
        counters.REFUSED.labels(what).inc()
        self.end(CloseCode.TRY_AGAIN_LATER, str(overloaded(what)))
        return True

    def greet(self) -> None:
        """Tell the rider his live offers and his route; later, where the store does not answer."""
        self._act(self._greet)

    async def _greet(self) -> None:
        room, claims = self._room, self.session.claims
        assert room is not None
        assert claims is not None
        try:
            async with asyncio.timeout(ACTION_S):
                if await self._make_sure():
                    await room.publisher.greet(self, claims.sub)
        except UNAVAILABLE:
            room.greet_later(self)
            raise

    async def _make_sure(self) -> bool:
        """Check a rider who was let in on trust; one of another tenant or city is sent away."""
        room, claims = self._room, self.session.claims
        assert room is not None
        assert claims is not None
        if not self._is_sure:
            home = await room.registry.home(claims.sub)
            self._is_sure = home == (claims.tenant, claims.city)
            if self._is_sure and self.session.is_open:
                self._sit(room, claims)
            if not self._is_sure:
                expected = "a rider whom this token's tenant and city registered"
                self._carry_out_now(self.session.forbid("token.sub", claims.sub, expected))
        return self._is_sure

    async def _claims(self, token: str) -> Claims | None:
        """The claims of a good token, counted; None after saying what is wrong with it."""
        guard, rates = self._parts.guard, self._parts.rates
        try:
            try:
                claims = guard.token(token)
            except Unauthorised as error:
                if not error.genuine:
                    await rates.hit(Limit.STRANGER, self._address)
                raise
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
            finally:
                self._actions.task_done()

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
        with on_order(
            _action_name(effect.command), effect.order_id, rider=self.rider_id or ""
        ) as span:
            span.set_attribute("outcome", await self._run_and_tell(effect))

    async def _run_and_tell(self, effect: Run) -> str:
        """The code of the outcome, as the client is told it."""
        ok, code, message = False, "", ""
        try:
            async with asyncio.timeout(ACTION_S):
                # An action may come before the greeting that checks, or while that has failed.
                if not await self._make_sure():
                    return "forbidden"
                outcome = await self._outcome(effect)
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
        return code

    async def _outcome(self, effect: Run) -> Outcome:
        store, order_id, command = self._parts.store, effect.order_id, effect.command
        if not isinstance(command, Claim):
            return await store.run(order_id, command, action_id=effect.action_id)
        who = self.session.claims
        assert who is not None
        return await store.hall.claim(
            order_id, command, tenant=who.tenant, city=who.city, action_id=effect.action_id
        )

    # --- endings ------------------------------------------------------------------------------

    def _no_hello(self) -> None:
        if self.session.claims is None:
            self._carry_out_now(self.session.refuse(f"no hello within {HELLO_S:.0f} s"))

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while (frame := await self._outbox.get()) is not None:
                await self._socket.send(frame, text=self._codec.text)
                counters.FRAMES_OUT.inc()
            if self._close is not None:
                await self._shut(self._close)

    async def _shut(self, close: Close) -> None:
        """Close, and do not wait for a peer who reads nothing."""
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._socket.close(close.code, close.reason)
        except TimeoutError:
            self.abort()


def _action_name(command: Command) -> str:
    """`accept`, `finish_stop` and the like, for traces."""
    return _WORD.sub("_", type(command).__name__).lower()
