"""Riders' phones: they stream fixes, answer offers, report stops, and resend what has no answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import deque
from typing import Any

import msgpack
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from bench.chaos.logs import now_ms
from bench.chaos.world import TENANT, City, World

FIX_S = 0.5
RESEND_S = 2.0
SILENCE_S = 4.0
CONNECT_S = 3.0
STUCK_S = 5.0
FIXES_A_FRAME = 100
AGAIN = ("busy", "unavailable")
NEXT_STATE = {"planned": "heading", "heading": "arrived", "arrived": "done"}


class Phone:
    """One rider. `home` is the gateway that he tries first; `pinned` phones try no other."""

    def __init__(
        self,
        world: World,
        rider: str,
        home: int,
        city: City,
        *,
        tenant: str = TENANT,
        pinned: bool = False,
    ) -> None:
        self.world, self.rider, self.city = world, rider, city
        self._home, self._pinned = home, pinned
        self._token = world.token(rider, "rider", city, tenant)
        self._text = home == 0  # one half speaks JSON, the other msgpack
        self.rng = random.Random(f"{rider} {world.seed}")
        place = city.place(self.rng)
        self._lat, self._lon = place["lat"], place["lon"]
        self._unacked: deque[dict[str, Any]] = deque()
        self._seq = 0
        self._pending: dict[str, dict[str, Any]] = {}
        self._claims: dict[str, asyncio.Future[str]] = {}
        self._asked: set[tuple[str, int]] = set()
        self._actions = 0
        self._device_ms = 0
        self._route: list[dict[str, Any]] = []
        self._next_act_s = 0.0
        self._moved_s = 0.0
        self._heard_s = 0.0
        self._socket: ClientConnection | None = None

    async def run(self) -> None:
        """Until the run is over."""
        attempt = self._home
        while not self.world.over.is_set():
            url = self.world.streams[attempt % len(self.world.streams)]
            with contextlib.suppress(OSError, WebSocketException, TimeoutError, _Again):
                async with asyncio.timeout(CONNECT_S):
                    protocol = "hexrun.v1.json" if self._text else "hexrun.v1.msgpack"
                    socket = await connect(
                        url,
                        subprotocols=[protocol],  # type: ignore[list-item]
                        compression=None,
                        ping_interval=None,
                        close_timeout=0.2,
                        open_timeout=CONNECT_S,
                    )
                try:
                    await self._talk(socket)
                finally:
                    self._socket = None
                    socket.transport.abort()
            attempt += 0 if self._pinned else 1
            await asyncio.sleep(self.rng.uniform(0.1, 0.4))

    async def _talk(self, socket: ClientConnection) -> None:
        await self._send(socket, {"type": "hello", "token": self._token, "system": "wgs84"})
        async with asyncio.timeout(CONNECT_S):
            while (frame := self._decode(await socket.recv()))["type"] != "welcome":
                self._hear(frame)
        self._socket, self._heard_s = socket, self._now_s()
        self._moved_s = self._now_s()
        self._acked(frame["last_seq"], "welcome")
        await self._resend_fixes()
        for pending in list(self._pending.values()):
            await self._send(socket, pending)
        over = self.world.over.wait()
        jobs = [
            asyncio.create_task(job)
            for job in (self._listen(socket), self._ride(), self._resend(), over)
        ]
        try:
            done, _ = await asyncio.wait(jobs, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
        for job in done:
            job.result()

    # --- what is sent ---------------------------------------------------------------------------

    async def _send(self, socket: ClientConnection | None, frame: dict[str, Any]) -> None:
        if socket is not None:
            data = json.dumps(frame) if self._text else msgpack.packb(frame)
            await socket.send(data)

    async def _ride(self) -> None:
        """Moves, and reports what is done at the first stop of the route."""
        fix_at_s = 0.0
        while True:
            now_s = self._now_s()
            if now_s >= fix_at_s:
                await self._fix()
                fix_at_s = now_s + FIX_S
            if now_s >= self._next_act_s:
                await self.act()
            oldest = self._unacked[0]["at_ms"] if self._unacked else now_ms()
            silent = now_s - self._heard_s > SILENCE_S and now_ms() - oldest > 1000 * SILENCE_S
            stuck = self._route and not self._pending and now_s - self._moved_s > STUCK_S
            if silent or stuck:
                raise _Again
            await asyncio.sleep(0.1)

    async def _fix(self) -> None:
        if self._route:
            stop = self._route[0]
            self._lat += 0.5 * (stop["lat"] - self._lat)
            self._lon += 0.5 * (stop["lon"] - self._lon)
        at_ms = now_ms()
        fix = {"seq": self._seq, "at_ms": at_ms, "lat": self._lat, "lon": self._lon}
        fix |= {"system": "wgs84", "accuracy_m": 8.0}
        self._seq += 1
        self.world.log.write("fix", rider=self.rider, seq=fix["seq"], at_ms=at_ms)
        self._unacked.append(fix)
        await self._send(self._socket, {"type": "fixes", "fixes": [fix]})

    async def act(self) -> None:
        """The next step at the first stop, once the last one is answered."""
        if not self._route or any(p["type"] == "stop" for p in self._pending.values()):
            return
        stop = self._route[0]
        state = NEXT_STATE[stop["state"]]
        if state == "done" and stop["kind"] == "dropoff" and self.rng.random() < 0.01:
            state = "failed"
        self._device_ms = max(self._device_ms + 1, now_ms())
        fields = {"stop": stop["stop"], "state": state, "at_ms": self._device_ms}
        if state == "failed":
            fields["reason"] = "nobody there"
        await self.do("stop", order_id=stop["order_id"], **fields)

    async def claim(self, order: str) -> str:
        """Grabs an order of the hall; the code that he is told."""
        action_id = self.next_action()
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._claims[action_id] = told
        with contextlib.suppress(OSError, WebSocketException):  # then it is sent again
            await self.do("claim", action_id, order_id=order)
        return await told

    def next_action(self) -> str:
        """An id that no other action of his has."""
        self._actions += 1
        return f"{self.rider}-{self._actions}"

    async def do(self, kind: str, action_id: str = "", **fields: Any) -> None:
        """An action: remembered until it is answered."""
        action_id = action_id or self.next_action()
        frame = {"type": kind, "action_id": action_id, **fields}
        self.world.log.write("action_sent", rider=self.rider, **frame)
        self._pending[action_id] = frame
        await self._send(self._socket, frame)

    async def _resend(self) -> None:
        while True:
            await asyncio.sleep(RESEND_S)
            for frame in list(self._pending.values()):
                await self._send(self._socket, frame)

    async def _resend_fixes(self) -> None:
        waiting = list(self._unacked)
        for n in range(0, len(waiting), FIXES_A_FRAME):
            fixes = waiting[n : n + FIXES_A_FRAME]
            await self._send(self._socket, {"type": "fixes", "fixes": fixes})

    # --- what is heard --------------------------------------------------------------------------

    async def _listen(self, socket: ClientConnection) -> None:
        async for data in socket:
            self._heard_s = self._now_s()
            frame = self._decode(data)
            self._hear(frame)
            if frame["type"] == "error" and "fixes" in f"{frame['field']} not_stored":
                await asyncio.sleep(1.0)
                await self._resend_fixes()
            if frame["type"] == "offer":
                await self._answer(frame)
        raise _Again

    def _hear(self, frame: dict[str, Any]) -> None:
        kind = frame["type"]
        if kind == "ack":
            self._acked(frame.get("seq", -1), "ack")
        elif kind == "route":
            if frame["stops"] != self._route:
                self._moved_s = self._now_s()
            self._route = frame["stops"]
            self._next_act_s = self._now_s() + self.rng.uniform(0.1, 0.4)
        elif kind == "result":
            self._result(frame)
        elif kind == "error":
            self.world.log.write("error", rider=self.rider, **{**frame, "type": "error"})

    async def _answer(self, offer: dict[str, Any]) -> None:
        order, number = offer["order_id"], offer["number"]
        if (order, number) in self._asked:
            return
        self._asked.add((order, number))
        self.world.log.write("offer", rider=self.rider, order=order, number=number)
        luck = self.rng.random()
        unwanted = order in self.world.unwanted
        if luck < (0.7 if unwanted else 0.02):
            return  # he does not hear it
        if unwanted or luck < 0.08:
            reason = f"no {self.rider}-{self._actions}"
            await self.do("decline", order_id=order, number=number, reason=reason)
        else:
            await self.do("accept", order_id=order, number=number)

    def _acked(self, seq: int, by: str) -> None:
        if seq is None or seq < 0:
            return
        fresh = False
        while self._unacked and self._unacked[0]["seq"] <= seq:
            self.settled(self._unacked.popleft())
            fresh = True
        if fresh:
            self.world.log.write("fix_acked", rider=self.rider, seq=seq, by=by)

    def settled(self, fix: dict[str, Any]) -> None:
        """The fix is acknowledged."""

    def _result(self, frame: dict[str, Any]) -> None:
        action_id, code = frame["action_id"], frame["code"]
        if code in AGAIN:
            return
        sent = self._pending.pop(action_id, None)
        told = {"action_id": action_id, "ok": frame["ok"], "code": code}
        self.world.log.write("action", rider=self.rider, **told)
        if sent is not None and sent["type"] == "stop" and frame["ok"]:
            self._advance(sent)
        if action_id in self._claims:
            self._claims.pop(action_id).set_result(code)
        self.answered(action_id)

    def answered(self, action_id: str) -> None:
        """The action has its result."""

    def _advance(self, sent: dict[str, Any]) -> None:
        """What he has reported is so, whether or not the new route is here."""
        self._moved_s = self._now_s()
        self._next_act_s = self._moved_s + self.rng.uniform(0.1, 0.4)
        if self._route and (self._route[0]["order_id"], self._route[0]["stop"]) == (
            sent["order_id"],
            sent["stop"],
        ):
            if sent["state"] in NEXT_STATE:
                self._route[0]["state"] = sent["state"]
            else:
                self._route.pop(0)

    def _decode(self, data: str | bytes) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(data) if self._text else msgpack.unpackb(data)
        return found

    def _now_s(self) -> float:
        return asyncio.get_running_loop().time()


class _Again(Exception):
    """This connection is of no use any more."""
