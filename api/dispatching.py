"""The live driver of one city's dispatcher; may import the store, the feed, the pool and dispatch.

One loop owns the `Dispatcher`: events and frames of fixes arrive in a queue, the clock makes ticks,
effects go to the solver process and to the store, and every input is journaled before it is used.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s, now_ms
from api.feed import follow, pause
from api.journal import (
    CityShape,
    Events,
    FrameOfFixes,
    JournalWriter,
    PlanMade,
    Start,
    Tick,
)
from api.pool import Frame, FrameRow, Pool
from api.solver import SolverProcess
from api.store import UNAVAILABLE, Receipt, Store
from dispatch.dispatcher import (
    Ask,
    Decide,
    Decided,
    Dispatcher,
    Effect,
    Fixes,
    Known,
    PlanWritten,
    WritePlan,
)
from dispatch.engine import GREEDY, decide, no_plan
from dispatch.plan import Plan
from dispatch.policy import Policy
from dispatch.referee import check_plan
from geo.distance import Plane
from geo.errors import Conflict, HexrunError
from geo.travel import TravelModel, travel_model

log = structlog.get_logger(__name__)

ASK_FAILED: tuple[type[Exception], ...] = (*UNAVAILABLE, HexrunError)
LEASE_MS = 4_000
RENEW_S = 1.0
SOLVER_LIMIT_S = 10.0
QUEUE_MAX = 10_000
ASKS_AT_ONCE = 3
RETRY_S = 0.5


class LeaseLost(HexrunError):
    """Another process owns the city now; this one may write nothing more."""


def travel_of(shape: CityShape) -> TravelModel:
    """The travel model that the shape names."""
    knobs = {"detour": shape.detour} if shape.travel == "straight_line" else {}
    return travel_model(shape.travel, **knobs)


def make_dispatcher(shape: CityShape, policy: Policy) -> Dispatcher:
    """The dispatcher that live and replay build alike."""
    return Dispatcher(shape.name, Plane(shape.lat, shape.lon), travel_of(shape), policy)


def fixes_of(rows: list[FrameRow]) -> Fixes:
    """A frame's rows as columns."""
    return Fixes(
        rider_id=tuple(r.rider_id for r in rows),
        lat=np.array([r.lat for r in rows], np.float64),
        lon=np.array([r.lon for r in rows], np.float64),
        at_ms=np.array([r.at_ms for r in rows], np.int64),
    )


def empty_plan(plan: Plan) -> Plan:
    """What is carried out of a refused plan: nothing."""
    return replace(plan, offers=())


class CityDispatcher:
    """Owns one city from `run` to its end. `owner` names this process in the lease."""

    def __init__(
        self,
        store: Store,
        redis: Redis,
        shape: CityShape,
        policy: Policy,
        journal_folder: Path,
        owner: str | None = None,
    ) -> None:
        self._store, self._redis = store, redis
        self._shape, self._policy = shape, policy
        self._folder = journal_folder
        self._owner = owner or f"dispatcher-{os.getpid()}"
        self._solver = SolverProcess()
        self._queue: asyncio.Queue[object] = asyncio.Queue(QUEUE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._main: asyncio.Task[None] | None = None
        self._failures: list[BaseException] = []
        self._asking: set[tuple[str, str]] = set()
        self._asks = asyncio.Semaphore(ASKS_AT_ONCE)
        self._in_round = 0  # decisions and writes that have not answered yet
        self._epoch = 0
        self.rounds = self.refused = 0

    @property
    def solver_pid(self) -> int | None:
        """The process number of the solver; None while there is none."""
        return self._solver.pid

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Dispatches until `stop` is set; then finishes the round and gives the city back.

        Waits while another process owns the city. Raises LeaseLost when it loses it.
        """
        try:
            await self._solver.start()
            if not await self._take_city(stop):
                return
            state = await self._store.load_city(self._shape.name)
            known = Known(orders=tuple(state.orders), riders=tuple(state.riders))
            with JournalWriter(self._folder, self._shape.name, now_ms()) as journal:
                journal.write(Start(city=self._shape, policy=self._policy))
                journal.write(known)
                self._journal = journal
                self._dispatcher = make_dispatcher(self._shape, self._policy)
                self._dispatcher.receive(known)
                async with self._followers(state.position, stop):
                    if ready is not None:
                        ready.set()
                    await self._loop(stop)
            await self._store.release_lease(self._shape.name, self._owner, self._epoch)
        finally:
            await self._solver.stop()

    # --- the city ---

    async def _take_city(self, stop: asyncio.Event) -> bool:
        while not stop.is_set():
            epoch = await self._store.take_lease(self._shape.name, self._owner, now_ms(), LEASE_MS)
            if epoch is not None:
                self._epoch = epoch
                log.info("city_taken", city=self._shape.name, epoch=epoch)
                return True
            await pause(stop, RETRY_S)
        return False

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            try:
                kept = await self._store.renew_lease(
                    self._shape.name, self._owner, self._epoch, now_ms(), LEASE_MS
                )
            except UNAVAILABLE as error:
                end_if_cancelled()
                log.warning("lease_not_renewed", error=str(error))
                continue
            if not kept:
                raise LeaseLost(f"city {self._shape.name}: epoch {self._epoch} is over")

    # --- inputs ---

    @asynccontextmanager
    async def _followers(self, position: int, stop: asyncio.Event) -> AsyncIterator[None]:
        """Runs the inputs beside the block; the first failure of any task ends the block."""
        self._main = asyncio.current_task()
        for work in (self._follow_events(position, stop), self._follow_fixes(), self._renew()):
            self._start(work)
        try:
            yield
        except asyncio.CancelledError:
            if self._failures:
                raise self._failures[0] from None
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self._main is not None:
            self._failures.append(error)
            if len(self._failures) == 1:
                self._main.cancel()

    async def _follow_events(self, position: int, stop: asyncio.Event) -> None:
        city = self._shape.name
        while not stop.is_set():
            try:
                async for batch in follow(self._store, self._redis, city, position, stop):
                    position = batch[-1].position
                    await self._queue.put(Events(position, tuple(p.event for p in batch)))
            except UNAVAILABLE as error:
                end_if_cancelled()
                log.warning("events_unreachable", error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _follow_fixes(self) -> None:
        after = "0-0"
        while True:
            try:
                async for frame_id, frame in Pool(self._redis, self._shape.name).frames(after):
                    await self._queue.put(frame)
                    after = frame_id
            except (RedisError, OSError) as error:
                end_if_cancelled()
                log.warning("fixes_unreachable", error=str(error))
                await asyncio.sleep(RETRY_S)

    # --- the loop ---

    async def _loop(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        try:
            while not stop.is_set() or self._in_round:
                message = await self._next_message(stopping)
                if message is not None:
                    self._take(message)
                while not self._queue.empty():
                    self._take(self._queue.get_nowait())
                due = self._dispatcher.wake_at()
                now = now_ms()
                if due is not None and due <= now and not stop.is_set():
                    self._journal.write(Tick(now))
                    self._dispatcher.tick(now)
                for effect in self._dispatcher.outbox():
                    self._carry_out(effect)
        finally:
            stopping.cancel()

    async def _next_message(self, stopping: asyncio.Task[object]) -> object | None:
        """The next input, or None when a tick is due or the process is to stop."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        due = self._dispatcher.wake_at()
        wait_s = None if due is None else max(0.0, (due - now_ms()) / 1000)
        if stopping.done():
            wait_s = RETRY_S  # only for what is still being decided and written
        getting = asyncio.create_task(self._queue.get())
        waiting = {getting} if stopping.done() else {getting, stopping}
        await asyncio.wait(waiting, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if getting.done():
            return getting.result()
        getting.cancel()
        return None

    def _take(self, message: object) -> None:
        """Journals one input and hands it to the dispatcher."""
        if isinstance(message, Events):
            self._journal.write(message)
            for event in message.events:
                self._dispatcher.receive(event)
        elif isinstance(message, Frame):
            self._journal.write(FrameOfFixes(message.segment, message.offset, message.length))
            self._dispatcher.receive(fixes_of(message.rows))
        elif isinstance(message, PlanWritten):
            self._in_round -= 1
            self._journal.write(message)
            self._dispatcher.receive(message)
        elif isinstance(message, tuple):
            made, plan = message
            self._in_round -= 1
            self._journal.write(made)
            self._dispatcher.receive(Decided(plan=empty_plan(plan) if made.refused else plan))

    def _carry_out(self, effect: Effect) -> None:
        self._in_round += isinstance(effect, Decide | WritePlan)
        if isinstance(effect, Decide):
            self._start(self._decide(effect))
        elif isinstance(effect, WritePlan):
            self._start(self._write(effect))
        else:
            self._start(self._ask(effect))

    # --- effects ---

    async def _decide(self, effect: Decide) -> None:
        """The referee and the greedy way run in a thread, so that the loop keeps its lease."""
        started = monotonic_s()
        snapshot, policy = effect.snapshot, self._policy
        try:
            plan = await self._solver.decide(snapshot, policy, SOLVER_LIMIT_S)
            if plan is None:
                plan = await asyncio.to_thread(decide, snapshot, policy, GREEDY)
        except HexrunError as error:
            log.error("no_plan", at_ms=snapshot.at_ms, error=str(error))
            plan = no_plan(snapshot)
        broken = await asyncio.to_thread(check_plan, snapshot, plan, policy)
        ms = (monotonic_s() - started) * 1000
        self.rounds += 1
        if broken:
            self.refused += 1
            log.error("plan_refused", at_ms=plan.at_ms, broken=broken[:5])
        made = PlanMade(plan.at_ms, plan.solver, plan.digest(), round(ms, 3), bool(broken))
        await self._queue.put((made, plan))

    async def _write(self, effect: WritePlan) -> None:
        offers = effect.offers
        planned = {o.order_id: o for o in effect.plan.offers}
        receipts = [
            Receipt(
                order_id=order_id,
                round_at_ms=effect.plan.at_ms,
                body={
                    "rider_id": command.rider_id,
                    "solver": effect.plan.solver,
                    "cost": planned[order_id].cost,
                    "pickup_ms": planned[order_id].pickup_ms,
                    "done_ms": planned[order_id].done_ms,
                },
            )
            for order_id, command in offers
        ]
        try:
            written = await self._store.write_plan(self._shape.name, self._epoch, offers, receipts)
            dropped = tuple(written.dropped)
        except Conflict as error:
            raise LeaseLost(str(error)) from error
        except UNAVAILABLE as error:
            log.error("plan_not_written", at_ms=effect.plan.at_ms, error=str(error))
            dropped = tuple((order_id, "store_failed") for order_id, _ in offers)
        if dropped:
            log.info("offers_dropped", at_ms=effect.plan.at_ms, dropped=dropped[:5])
        await self._queue.put(PlanWritten(at_ms=effect.plan.at_ms, dropped=dropped))

    async def _ask(self, effect: Ask) -> None:
        """A few at a time, so that a flood of due timers leaves connections to plan and lease."""
        key = effect.order_id, type(effect.command).__name__
        if key in self._asking:
            return
        self._asking.add(key)
        try:
            async with self._asks:
                outcome = await self._store.run(effect.order_id, effect.command)
        except ASK_FAILED as error:
            log.warning("ask_failed", order_id=effect.order_id, error=str(error))
            return
        finally:
            self._asking.discard(key)
        if outcome.refusal is not None:
            log.info("ask_refused", order_id=effect.order_id, code=outcome.refusal.code)
