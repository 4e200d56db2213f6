"""The live driver of one city's dispatcher; may import the store, the feed, the pool and dispatch.

One loop owns the `Dispatcher`: events and frames of fixes arrive in a queue, the clock makes ticks,
effects go to the solvers and to the store, and every input is journaled before it is used. Ticks
rest while PostgreSQL does not confirm the lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s, now_ms
from api.dispatching import counters
from api.dispatching.build import City, empty_plan, fixes_of, make_dispatcher
from api.dispatching.effects import Effects, Made
from api.dispatching.lease import Lease
from api.dispatching.recorder import Recorder
from api.feed import follow
from api.journal import Events, FrameOfFixes, Start, Tick
from api.metrics import Mode, degraded
from api.pool import Frame, Pool
from api.solver import SolverPool
from api.store import UNAVAILABLE, Store
from dispatch.dispatcher import Decide, Decided, Dispatcher, Effect, Known, PlanWritten, WritePlan

log = structlog.get_logger(__name__)

QUEUE_MAX = 10_000
RETRY_S = 0.5
LEASE_POLL_S = 0.1
FIXES_REST_S = 0.1  # a round is as good with positions of so long ago
FINISH_S = 1.0  # for what is being written when the city is given back
JOURNAL_LOOK_S = 1.0
JOURNAL_RETRY_S, JOURNAL_RETRY_MAX_S = 10.0, 300.0

Input = Events | Frame | Made | PlanWritten


class CityDispatcher:
    """One city for as long as this process holds its lease."""

    def __init__(
        self,
        store: Store,
        redis: Redis,
        solvers: SolverPool,
        city: City,
        journal_folder: Path,
        lease: Lease,
    ) -> None:
        self._store, self._redis = store, redis
        self._city, self._lease, self._folder = city, lease, journal_folder
        self._effects = Effects(store, solvers, city, lease, self._answered)
        self._journal_pause_s = JOURNAL_RETRY_S
        self.rounds = self.refused = 0
        self.position = 0
        """Of the last event that was used."""
        self.last_round_ms: int | None = None

    def facts(self) -> dict[str, object]:
        """How the city is dispatched, for the status door."""
        last_ms = self.last_round_ms
        return {
            "epoch": self._lease.epoch,
            "lease_holds": self._lease.holds,
            "rounds": self.rounds,
            "last_round_age_s": None if last_ms is None else (now_ms() - last_ms) / 1000,
            "feed_position": self.position,
        }

    async def run(self, stop: asyncio.Event, ready: asyncio.Event) -> None:
        """Dispatches until `stop` is set; then finishes what is being written.

        Starts anew, under the same lease, when a journal that was broken can be written again.
        Raises LeaseLost when another one has the city, and what the store raises when it does not
        answer at a start.
        """
        gap_since_ms: int | None = None
        recorder: Recorder | None = None
        try:
            while not stop.is_set():
                if recorder is None:
                    recorder = await self._open_journal(gap_since_ms)
                used, recorder = recorder, None
                try:
                    recorder = await self._run_once(used, stop, ready)
                finally:
                    await used.close()
        finally:
            if recorder is not None:
                await recorder.close()
            for mode in (Mode.REDIS_AWAY, Mode.POSITIONS_STALE, Mode.DISK_FAILS):
                degraded(mode, False, self._city.name)
            counters.forget_city(self._city.name)

    async def _open_journal(self, gap_since_ms: int | None) -> Recorder:
        start = Start(city=self._city.shape, policy=self._city.policy, gap_since_ms=gap_since_ms)
        return await Recorder.open(self._folder, start)

    async def _run_once(
        self, recorder: Recorder, stop: asyncio.Event, ready: asyncio.Event
    ) -> Recorder | None:
        """Until `stop`; gives a fresh journal when it ended for that."""
        state = await self._store.load_city(self._city.name)
        self.position = state.position
        known = Known(orders=tuple(state.orders), riders=tuple(state.riders))
        self._queue: asyncio.Queue[Input] = asyncio.Queue(QUEUE_MAX)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._writing = 0  # plans that have not been answered yet
        self._journal = recorder
        self._fresh: Recorder | None = None
        self._began_s = monotonic_s()
        self._journal_due_s = self._began_s + self._journal_pause_s
        self._dispatcher: Dispatcher = make_dispatcher(self._city.shape, self._city.policy)
        recorder.write(known)
        self._dispatcher.receive(known)
        try:
            async with self._followers(state.position, stop):
                ready.set()
                await self._loop(stop)
        except BaseException:
            if self._fresh is not None:
                await self._fresh.close()
            raise
        return self._fresh

    # --- inputs ---

    @asynccontextmanager
    async def _followers(self, position: int, stop: asyncio.Event) -> AsyncIterator[None]:
        """Runs the inputs beside the block; the first failure of any task ends the block."""
        self._main = asyncio.current_task()
        for work in (self._follow_events(position, stop), self._follow_fixes()):
            self._start(work)
        try:
            yield
        except asyncio.CancelledError:
            if self._failures:
                if self._main is not None:
                    self._main.uncancel()
                raise self._failures[0] from None
            raise
        finally:
            self._main = None
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
        city = self._city.name
        while not stop.is_set():
            try:
                async for batch in follow(self._store, self._redis, city, position, stop):
                    position = batch[-1].position
                    await self._queue.put(Events(position, tuple(p.event for p in batch)))
            except UNAVAILABLE as error:
                end_if_cancelled()
                log.warning("events_unreachable", city=city, error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _follow_fixes(self) -> None:
        """Without Redis every rider stays where he was last seen."""
        pool, after = Pool(self._redis, self._city.name), "0-0"
        while True:
            try:
                last = await pool.last_frame_id()
                degraded(Mode.REDIS_AWAY, False, self._city.name)
                if _is_before(last, after):
                    after = "0-0"  # the stream was lost and began again under an earlier clock
                async for frame_id, frame in pool.frames(after, rest_s=FIXES_REST_S):
                    await self._queue.put(frame)
                    after = frame_id
            except (RedisError, OSError) as error:
                end_if_cancelled()
                degraded(Mode.REDIS_AWAY, True, self._city.name, error=str(error))
                await asyncio.sleep(RETRY_S)

    async def _answered(self, answer: Made | PlanWritten) -> None:
        await self._queue.put(answer)

    # --- the loop ---

    async def _loop(self, stop: asyncio.Event) -> None:
        stopping = asyncio.create_task(stop.wait())
        until_s: float | None = None
        try:
            while self._fresh is None:
                if stop.is_set():
                    until_s = until_s or monotonic_s() + FINISH_S
                    if not self._writing or monotonic_s() > until_s:
                        return
                message = await self._next_message(stopping)
                if message is not None:
                    self._take(message)
                while not self._queue.empty():
                    self._take(self._queue.get_nowait())
                if not stop.is_set():
                    self._tick()
                for effect in self._dispatcher.outbox():
                    if not (stop.is_set() and isinstance(effect, Decide)):
                        self._carry_out(effect)
                self._see_to_journal()
        finally:
            stopping.cancel()

    def _tick(self) -> None:
        due, now = self._dispatcher.wake_at(), now_ms()
        if due is not None and due <= now and self._lease.holds:
            self._journal.write(Tick(now))
            self._dispatcher.tick(now)

    async def _next_message(self, stopping: asyncio.Task[object]) -> Input | None:
        """The next input, or None when a tick is due or the city is to be given back."""
        if not self._queue.empty():
            return self._queue.get_nowait()
        getting = asyncio.create_task(self._queue.get())
        waiting = {getting} if stopping.done() else {getting, stopping}
        await asyncio.wait(
            waiting, timeout=self._wait_s(stopping.done()), return_when=asyncio.FIRST_COMPLETED
        )
        if getting.done():
            return getting.result()
        getting.cancel()
        return None

    def _wait_s(self, stopping: bool) -> float:
        """Until a tick is due; never long, for the journal's disk is looked after too."""
        due = self._dispatcher.wake_at()
        if stopping:
            return LEASE_POLL_S
        if due is None:
            return JOURNAL_LOOK_S
        due_s = (due - now_ms()) / 1000
        return min(JOURNAL_LOOK_S, max(0.0 if self._lease.holds else LEASE_POLL_S, due_s))

    def _take(self, message: Input) -> None:
        """Journals one input and hands it to the dispatcher."""
        if isinstance(message, Events):
            self._journal.write(message)
            for event in message.events:
                counters.count_event(self._city.name, event)
                self._dispatcher.receive(event)
            self.position = message.position
        elif isinstance(message, Frame):
            self._journal.write(FrameOfFixes(message.segment, message.offset, message.length))
            self._dispatcher.receive(fixes_of(message.rows))
        elif isinstance(message, PlanWritten):
            self._writing -= 1
            self._journal.write(message)
            self._dispatcher.receive(message)
        else:
            made, plan = message.record, message.plan
            self.rounds += 1
            self.last_round_ms = now_ms()
            self.refused += made.refused
            self._journal.write(made)
            self._dispatcher.receive(Decided(plan=empty_plan(plan) if made.refused else plan))

    def _carry_out(self, effect: Effect) -> None:
        self._writing += isinstance(effect, WritePlan)
        self._start(self._effects.carry_out(effect))

    # --- a journal that broke ---

    def _see_to_journal(self) -> None:
        self._journal.check()
        if self._journal.broken_since_ms is None:
            # Only a file that has lasted counts, or a full disk would be tried all the time.
            if monotonic_s() - self._began_s > JOURNAL_RETRY_MAX_S:
                self._journal_pause_s = JOURNAL_RETRY_S
        elif monotonic_s() >= self._journal_due_s:
            self._journal_due_s = float("inf")
            self._start(self._try_journal(self._journal.broken_since_ms))

    async def _try_journal(self, broken_since_ms: int) -> None:
        fresh = await self._open_journal(broken_since_ms)
        self._journal_pause_s = min(2 * self._journal_pause_s, JOURNAL_RETRY_MAX_S)
        self._journal_due_s = monotonic_s() + self._journal_pause_s
        if fresh.broken_since_ms is None:
            self._fresh = fresh


def _is_before(one: str, other: str) -> bool:
    """Of two ids of a stream's entries."""
    return tuple(map(int, one.split("-"))) < tuple(map(int, other.split("-")))
