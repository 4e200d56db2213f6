"""Riders and customers who use the live system through its doors, following the simulator's city.

The minds are the simulator's own; here they get a phone: riders stream fixes and answer over real
websockets, customers place and cancel orders over real HTTP, and some of them watch. What the bots
counted is written to `run/bots.json` every second.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import structlog
from msgspec import structs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from api import messages as m
from api.auth import Role, Tokens
from api.clock import now_ms
from api.feed import pause
from api.gateway.server import STREAM_PATH
from api.session import CloseCode
from api.settings import Settings
from dispatch.model import Order, StopKind, StopState
from dispatch.registry import job_type
from geo.datum import System, from_wgs84, to_wgs84
from geo.distance import Plane
from sim.behaviour import (
    UNREACHABLE,
    Answer,
    EndShift,
    OfferSeen,
    Report,
    RiderMind,
    StartShift,
    StopAhead,
)
from sim.city import City, build_city
from sim.crew import Member, draw_crew
from sim.customers import CancelOrder, CustomerMind, PlaceOrder
from sim.demand import OrderRequest, draw_demand
from sim.manners import manners_of, minds_places
from sim.scenario import Scenario
from sim.streams import stream

log = structlog.get_logger(__name__)

BOTS_NAME = "bots.json"
PHONE_SYSTEM = System.GCJ02  # what a mini-program's location stream gives
WATCHING_EVERY = 10  # one customer in so many opens a socket of his own
RETRY_S = 1.0
RESEND_MS = 2_000
FAREWELL_S = 3.0
UNSENT_MAX = 2_000
FIXES_A_FRAME = 50
# Closes after which a client connects again at once: another process is there for it.
AT_ONCE = (CloseCode.SERVICE_RESTART, CloseCode.RESUME)
AGAIN = ("unavailable", "busy")  # answers after which the same action is sent once more


@dataclass(slots=True)
class Placed:
    """What the bots know of an order that the server has taken."""

    order: Order
    request: OrderRequest
    customer: CustomerMind


class Bots:
    """The whole town on one event loop."""

    def __init__(self, settings: Settings, scenario: Scenario, seed: int) -> None:
        self.settings = settings
        self.plane = scenario.plane
        self.scenario = replace(
            scenario, city=replace(scenario.city, name=settings.city.name), start_ms=now_ms()
        )
        self.seed = seed
        self.tokens = Tokens(settings.secret)
        self.counts: Counter[str] = Counter()
        self.placed: dict[str, Placed] = {}
        self._shopping: set[asyncio.Task[None]] = set()
        self.http = httpx2.AsyncClient(
            base_url=f"http://{settings.host}:{settings.http_port}",
            limits=httpx2.Limits(max_connections=20),
            timeout=30.0,
        )

    def token(self, sub: str, role: Role) -> dict[str, str]:
        """The header of a fresh token."""
        token = self.tokens.mint(sub=sub, role=role, city=self.settings.city.name)
        return {"Authorization": f"Bearer {token}"}

    async def run(self, stop: asyncio.Event, ready: asyncio.Event) -> None:
        """Until `stop`: then riders send what they have and wait for their acknowledgements."""
        city = build_city(self.scenario, self.seed)
        law = self.scenario.travel.build().law
        assert law is not None
        riders = []
        for i, member in enumerate(draw_crew(self.scenario, city, self.seed)):
            mind = RiderMind(
                knobs=self.scenario.riders,
                law=law,
                speed_mps=member.rider.speed_mps,
                x=member.x,
                y=member.y,
                shift_start_ms=member.shift_start_ms,
                shift_end_ms=member.shift_end_ms,
                rng=stream(self.seed, "rider", member.rider.id),
                manners=manners_of(self.scenario.riders, member, self.seed),
            )
            riders.append(RiderBot(self, member, mind, m.MSGPACK if i % 2 else m.JSON))
        ready.set()
        tasks = [asyncio.create_task(rider.run(stop)) for rider in riders]
        tasks.append(asyncio.create_task(self._report(stop)))
        tasks.append(asyncio.create_task(self._customers(city, stop)))
        await stop.wait()
        done, late = await asyncio.wait([*tasks, *self._shopping], timeout=2 * FAREWELL_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for task in done:
            if task.exception() is not None:
                log.error("bot_failed", error=repr(task.exception()))
                self.counts["bots_failed"] += 1
        await self.http.aclose()
        self._write()

    async def _report(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            self._write()
            await pause(stop, 1.0)

    def _write(self) -> None:
        path = Path(self.settings.data) / "run" / BOTS_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".partial")
        draft.write_text(json.dumps(self.counts))
        draft.replace(path)

    # --- customers ---

    async def _customers(self, city: City, stop: asyncio.Event) -> None:
        """Sends each customer off in time; when the scenario's orders are over, more like them."""
        days, start_ms, number = 0, self.scenario.start_ms, 0
        while not stop.is_set():
            day = replace(self.scenario, start_ms=start_ms)
            demand = draw_demand(day, city, self.seed + days)
            for i in range(len(demand)):
                request = demand.request(i)
                await pause(stop, (request.at_ms - now_ms()) / 1000)
                if stop.is_set():
                    return
                task = asyncio.create_task(self._customer(number, request, stop))
                self._shopping.add(task)
                task.add_done_callback(self._shopped)
                number += 1
            days, start_ms = days + 1, start_ms + 1000 * self.scenario.duration_s
            await pause(stop, (start_ms - now_ms()) / 1000)

    def _shopped(self, task: asyncio.Task[None]) -> None:
        self._shopping.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("bot_failed", error=repr(task.exception()))
            self.counts["bots_failed"] += 1

    async def _customer(self, i: int, request: OrderRequest, stop: asyncio.Event) -> None:
        mind = CustomerMind(request)
        order_id = ""
        while not stop.is_set():
            due = mind.wake_at()
            if due is None:
                return
            await pause(stop, (due - now_ms()) / 1000)
            if stop.is_set():
                return
            for action in mind.act(now_ms()):
                if isinstance(action, PlaceOrder):
                    order_id = await self._place(i, mind, stop)
                elif isinstance(action, CancelOrder) and order_id:
                    await self._cancel(action, order_id, request)
            if not order_id:
                return
            if i % WATCHING_EVERY == 0 and request.cancel_at_ms is None:
                await self._watch(order_id, request, stop)

    async def _place(self, i: int, mind: CustomerMind, stop: asyncio.Event) -> str:
        """Places the order as a phone would: again with the same key until it is answered."""
        request, form = mind.request, mind.request.form
        now = now_ms()
        waits = {id(s): max(now, s.earliest_ms) for s in form.stops if s.earliest_ms is not None}
        stops = tuple(structs.replace(s, earliest_ms=waits.get(id(s))) for s in form.stops)
        body = order_body(structs.replace(request, form=structs.replace(form, stops=stops)))
        headers = self.token(form.customer_id, Role.CUSTOMER)
        headers["Idempotency-Key"] = f"bot-{self.seed}-{i}-{self.scenario.start_ms}"
        while not stop.is_set():
            try:
                answer = await self.http.post("/v1/orders", json=body, headers=headers)
            except httpx2.TransportError:
                await pause(stop, RETRY_S)
                continue
            if answer.status_code >= 500:
                await pause(stop, RETRY_S)
                continue
            if answer.status_code >= 400:
                self.counts["orders_refused"] += 1
                log.warning("order_refused", status=answer.status_code, field=_field(answer))
                return ""
            order_id = str(answer.json()["id"])
            self._remember(order_id, mind, now)
            self.counts["orders_placed"] += 1
            return order_id
        return ""

    def _remember(self, order_id: str, mind: CustomerMind, at_ms: int) -> None:
        request = mind.request
        kind, form = job_type(request.job_type), request.form
        quote = kind.quote(form, min(at_ms, request.at_ms))
        order = kind.order(order_id, self.settings.city.name, form, quote, at_ms)
        self.placed[order_id] = Placed(order, request, mind)

    async def _cancel(self, action: CancelOrder, order_id: str, request: OrderRequest) -> None:
        with contextlib.suppress(httpx2.TransportError):
            answer = await self.http.post(
                f"/v1/orders/{order_id}/cancel",
                json={"reason": action.reason},
                headers=self.token(request.form.customer_id, Role.CUSTOMER),
            )
            self.counts["cancels_refused" if answer.status_code >= 400 else "cancels"] += 1

    async def _watch(self, order_id: str, request: OrderRequest, stop: asyncio.Event) -> None:
        """Follows the order on a socket until it is done."""
        customer = request.form.customer_id
        while not stop.is_set():
            try:
                async with self.open(customer, Role.CUSTOMER, m.JSON) as socket:
                    await self._watch_on(socket, order_id, stop)
                    return
            except (WebSocketException, OSError) as error:
                if not at_once(error):
                    return

    async def _watch_on(self, socket: ClientConnection, order_id: str, stop: asyncio.Event) -> None:
        codec = m.JSON
        await send(socket, codec, m.Hello(system=PHONE_SYSTEM))
        await send(socket, codec, m.Watch(orders=[order_id]))
        while not stop.is_set():
            try:
                async with asyncio.timeout(1.0):
                    raw = await socket.recv()
            except TimeoutError:
                continue
            frame = codec.decode_any(raw)
            self.counts[f"watched_{frame['type']}"] += 1
            if frame["type"] == "order" and frame["state"] in ("done", "completed"):
                return

    def open(self, sub: str, role: Role, codec: m.Codec) -> connect:
        """A socket with a fresh token in its header."""
        return connect(
            f"ws://{self.settings.host}:{self.settings.stream_port}{STREAM_PATH}",
            subprotocols=[codec.subprotocol],  # type: ignore[list-item]
            additional_headers=self.token(sub, role),
            compression=None,
            open_timeout=30.0,
            close_timeout=1.0,
        )


class RiderBot:
    """One rider's phone: his mind's actions go out, the server's frames come in."""

    def __init__(self, bots: Bots, member: Member, mind: RiderMind, codec: m.Codec) -> None:
        self._bots, self._member, self._mind, self._codec = bots, member, mind, codec
        self._plane: Plane = bots.plane
        self._interval_ms = int(bots.scenario.riders.fix_s * 1000)
        self._id = member.rider.id
        self._seq = 0
        self._next_fix_ms = 0
        self._unacknowledged: deque[m.Fix] = deque(maxlen=UNSENT_MAX)
        self._resend_ms: int | None = None  # when the disk may have room again
        self._actions = 0
        self._waiting: dict[str, Any] = {}  # action id -> frame not answered yet
        self._again: deque[str] = deque()  # action ids that the server could not take
        self._number: dict[str, int] = {}

    async def run(self, stop: asyncio.Event) -> None:
        """Connects again and again until `stop`."""
        await self._register(stop)
        while not stop.is_set():
            try:
                async with self._bots.open(self._id, Role.RIDER, self._codec) as socket:
                    await self._session(socket, stop)
            except (WebSocketException, OSError, TimeoutError) as error:
                self._bots.counts["rider_reconnects"] += 1
                log.info("rider_cut_off", rider_id=self._id, error=str(error))
                if not at_once(error):
                    await pause(stop, RETRY_S)

    async def _session(self, socket: ClientConnection, stop: asyncio.Event) -> None:
        self._resend_ms = None
        await send(socket, self._codec, m.Hello(system=System.WGS84))
        self._hear(self._codec.decode_any(await socket.recv()))
        await self._send_fixes(socket, list(self._unacknowledged))
        for frame in list(self._waiting.values()):
            await send(socket, self._codec, frame)
        while not stop.is_set():
            now = now_ms()
            for action in self._mind.act(now):
                await self._do(socket, action, now, stop)
            if now >= self._next_fix_ms:
                await self._fix(socket, now)
            if self._resend_ms is not None and now >= self._resend_ms:
                self._resend_ms = None
                await self._send_fixes(socket, list(self._unacknowledged))
            while self._again:
                await send(socket, self._codec, self._waiting[self._again.popleft()])
            due = min(d for d in (self._mind.wake_at(), self._next_fix_ms) if d is not None)
            await self._listen(socket, (due - now_ms()) / 1000)
        await self._fix(socket, now_ms())
        until = now_ms() + int(FAREWELL_S * 1000)
        while (self._unacknowledged or self._waiting) and now_ms() < until:
            await self._listen(socket, 0.1)

    async def _listen(self, socket: ClientConnection, wait_s: float) -> None:
        """Hears what comes within `wait_s` seconds: one frame at most."""
        try:
            async with asyncio.timeout(max(wait_s, 0.001)):
                raw = await socket.recv()
        except TimeoutError:
            return
        self._hear(self._codec.decode_any(raw))

    # --- out ---

    async def _do(
        self, socket: ClientConnection, action: object, now: int, stop: asyncio.Event
    ) -> None:
        if isinstance(action, StartShift):
            await self._shift({"on": True, "shift_end_ms": action.shift_end_ms}, stop)
        elif isinstance(action, EndShift):
            await self._shift({"on": False}, stop)
        elif isinstance(action, Answer):
            kind = m.Accept if action.accept else m.Decline
            extra = {} if action.accept else {"reason": action.reason}
            await self._act(socket, kind, order_id=action.order_id, number=action.number, **extra)
        elif isinstance(action, Report):
            if action.state is StopState.DONE and action.order_id in self._bots.placed:
                self._bots.placed[action.order_id].customer.settled()
            await self._act(
                socket,
                m.Stop,
                order_id=action.order_id,
                stop=action.stop,
                state=str(action.state),
                reason=UNREACHABLE if action.state is StopState.FAILED else "",
                at_ms=now,
            )

    async def _act(self, socket: ClientConnection, kind: Callable[..., Any], **of: Any) -> None:
        self._actions += 1
        action_id = f"{self._id}-{self._bots.scenario.start_ms}-{self._actions}"
        frame = kind(action_id=action_id, **of)
        self._waiting[action_id] = frame
        self._bots.counts["actions_sent"] += 1
        await send(socket, self._codec, frame)

    async def _fix(self, socket: ClientConnection, now: int) -> None:
        self._next_fix_ms = now + self._interval_ms
        seen = self._mind.fix(now)
        lat, lon = from_wgs84(*self._plane.lat_lon(seen.x, seen.y), PHONE_SYSTEM)
        fix = m.Fix(
            seq=self._seq,
            at_ms=now,
            lat=float(lat),
            lon=float(lon),
            system=PHONE_SYSTEM,
            accuracy_m=8.0,
            speed_mps=seen.speed_mps,
        )
        self._seq += 1
        self._unacknowledged.append(fix)
        self._bots.counts["fixes_sent"] += 1
        self._bots.counts["fixes_moving"] += seen.speed_mps > 0
        await self._send_fixes(socket, [fix])

    async def _send_fixes(self, socket: ClientConnection, fixes: list[m.Fix]) -> None:
        for first in range(0, len(fixes), FIXES_A_FRAME):
            frame = m.Fixes(fixes=fixes[first : first + FIXES_A_FRAME])
            await send(socket, self._codec, frame)

    async def _register(self, stop: asyncio.Event) -> None:
        rider = self._member.rider
        body = {
            "id": rider.id,
            "vehicle": rider.vehicle,
            "speed_mps": rider.speed_mps,
            "capacity": list(rider.capacity),
            "skills": list(rider.skills),
        }
        await self._post("/v1/riders", body, stop)

    async def _shift(self, body: dict[str, Any], stop: asyncio.Event) -> None:
        if body["on"]:
            x, y = self._mind.position(now_ms())
            lat, lon = from_wgs84(*self._plane.lat_lon(x, y), PHONE_SYSTEM)
            body["place"] = {
                "lat": float(lat),
                "lon": float(lon),
                "coordinate_system": str(PHONE_SYSTEM),
            }
        await self._post(f"/v1/riders/{self._id}/shift", body, stop)

    async def _post(self, path: str, body: dict[str, Any], stop: asyncio.Event) -> None:
        """Again until the server answers; what it refuses is counted and left."""
        while not stop.is_set():
            with contextlib.suppress(httpx2.TransportError):
                headers = self._bots.token(self._id, Role.RIDER)
                answer = await self._bots.http.post(path, json=body, headers=headers)
                if answer.status_code < 400:
                    return
                if answer.status_code < 500:
                    log.warning("rider_refused", path=path, field=_field(answer))
                    self._bots.counts["riders_refused"] += 1
                    return
            await pause(stop, RETRY_S)

    # --- in ---

    def _hear(self, frame: dict[str, Any]) -> None:
        kind, now = frame["type"], now_ms()
        if kind == "ack":
            self._acknowledged(frame["seq"])
        elif kind == "welcome":
            self._seq = max(self._seq, frame["last_seq"] + 1)
            self._acknowledged(frame["last_seq"])
        elif kind == "offer":
            self._bots.counts["offers_heard"] += 1
            self._number[frame["order_id"]] = frame["number"]
            seen = OfferSeen(
                order_id=frame["order_id"],
                number=frame["number"],
                deadline_ms=frame["deadline_ms"],
                pickup=self._pickup(frame["order_id"]),
            )
            self._mind.offered(now, seen)
        elif kind == "offer_over":
            self._mind.offer_over(frame["order_id"], frame["number"])
        elif kind == "route":
            self._mind.route(now, [self._ahead(s) for s in frame["stops"]])
        elif kind == "result":
            self._answered(frame)
        elif kind == "error" and frame["code"] == "not_stored":
            self._resend_ms = now + RESEND_MS
        elif kind == "error":
            self._bots.counts["errors_heard"] += 1
            log.warning("server_error", rider_id=self._id, frame=frame)

    def _acknowledged(self, seq: int) -> None:
        while self._unacknowledged and self._unacknowledged[0].seq <= seq:
            self._unacknowledged.popleft()
            self._bots.counts["fixes_acknowledged"] += 1

    def _answered(self, frame: dict[str, Any]) -> None:
        if frame["code"] in AGAIN:
            self._again.append(frame["action_id"])
            return
        asked = self._waiting.pop(frame["action_id"], None)
        if frame["ok"]:
            self._bots.counts["actions_done"] += 1
            return
        self._bots.counts["actions_refused"] += 1
        log.info("action_refused", rider_id=self._id, code=frame["code"], asked=str(asked))
        if isinstance(asked, m.Accept):
            self._mind.offer_over(asked.order_id, asked.number)

    def _pickup(self, order_id: str) -> tuple[float, float] | None:
        """Where an offered order is picked up, for riders who mind."""
        known = self._bots.placed.get(order_id)
        if known is None or not minds_places(self._bots.scenario.riders):
            return None
        there = known.order.stops[0].place
        x, y = self._plane.xy(there.lat, there.lon)
        return float(x), float(y)

    def _ahead(self, told: dict[str, Any]) -> StopAhead:
        """The stop as the rider sees it; the town knows when the goods are truly ready."""
        order_id, index = told["order_id"], told["stop"]
        lat, lon = to_wgs84(told["lat"], told["lon"], System.WGS84)
        x, y = self._plane.xy(lat, lon)
        known = self._bots.placed.get(order_id)
        ready, approach, leave, place_id = told["earliest_ms"] or 0, 0, 0, ""
        no_answer_ms = None
        if known is not None and index < len(known.order.stops):
            stop = known.order.stops[index]
            approach, leave, place_id = stop.approach_ms, stop.leave_ms, stop.place_id
            if index == 0:
                ready = max(ready, known.request.ready_ms)
            if index == len(known.order.stops) - 1:
                no_answer_ms = known.request.no_answer_ms
        return StopAhead(
            order_id=order_id,
            stop=index,
            number=self._number.get(order_id, 0),
            kind=StopKind(told["kind"]),
            x=float(x),
            y=float(y),
            ready_ms=ready,
            approach_ms=approach,
            leave_ms=leave,
            place_id=place_id,
            state=StopState(told["state"]),
            no_answer_ms=no_answer_ms,
        )


def _field(answer: httpx2.Response) -> str:
    """Which field was refused: an answer in full may repeat a name or a phone."""
    try:
        error = answer.json()["error"]
        return f"{error['code']} {error['field']}"
    except (ValueError, KeyError, TypeError):
        return "no error of hexrun's"


def order_body(request: OrderRequest) -> dict[str, Any]:
    """The request as the HTTP form, in the phone's coordinate system."""
    stops = []
    for stop in request.form.stops:
        lat, lon = from_wgs84(stop.place.lat, stop.place.lon, PHONE_SYSTEM)
        place = {"lat": float(lat), "lon": float(lon), "coordinate_system": str(PHONE_SYSTEM)}
        one: dict[str, Any] = {"place": place}
        if stop.place_id:
            one["place_id"] = stop.place_id
        if stop.earliest_ms is not None:
            one["earliest_ms"] = stop.earliest_ms
        stops.append(one)
    # Of no country, like the masked numbers: nobody's phone rings.
    caller = f"+99910{zlib.crc32(request.form.customer_id.encode()) % 1_000_000:06d}"
    stops[-1]["contact"] = {"name": request.form.customer_id, "phone": caller}
    return {
        "job_type": request.job_type,
        "merchant_id": request.form.merchant_id,
        "load": list(request.form.load),
        "stops": stops,
    }


def at_once(error: Exception) -> bool:
    """Whether the server has sent this client to another process."""
    closed = error.rcvd if isinstance(error, ConnectionClosed) else None
    return closed is not None and closed.code in AT_ONCE


async def send(socket: ClientConnection, codec: m.Codec, frame: object) -> None:
    """One frame in the socket's encoding."""
    await socket.send(codec.encode(frame), text=codec.text)
