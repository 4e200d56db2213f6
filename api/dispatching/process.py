"""All cities of one dispatcher process; may import the store, the solvers and the city's driver.

Every process beats in PostgreSQL and sees there who else does. From that each computes which cities
are to be its own, gives the others back and takes its own as soon as their leases are free. What
goes wrong in a city drops that city for a while, ever longer, in which another process may take it;
the process goes on.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import structlog
from redis.asyncio import Redis

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s
from api.dispatching import counters
from api.dispatching.build import City
from api.dispatching.city import CityDispatcher
from api.dispatching.effects import AWAY, read_engine
from api.dispatching.lease import BEAT_S, TTL_MS, Lease, LeaseLost
from api.dispatching.shares import share
from api.feed import pause
from api.metrics import Mode, degraded
from api.solver import SolverPool
from api.store import Store

log = structlog.get_logger(__name__)

BEAT_LIMIT_S = 2.0
STOP_LIMIT_S = 3.0
AGAIN_S, AGAIN_MAX_S = 2.0, 120.0  # before a city that failed is tried again, ever longer
SOUND_S = 60.0  # a city that was dispatched for so long starts with the short pause again
# A city that nobody has for so long, since its own process fails with it, is taken by any other,
# who gives it back later for another try.
ORPHAN_S, FOSTER_S = 5.0, 120.0
ENGINE_AFTER_S = 10.0  # when a process that has just started has time for what it may never need


@dataclass(slots=True, eq=False)
class _Held:
    """A city that this process owns, and the task that dispatches it."""

    driver: CityDispatcher
    lease: Lease
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    is_lost: bool = False
    since_s: float = field(default_factory=monotonic_s)
    foster_until_s: float = 0.0

    @property
    def is_fostered(self) -> bool:
        """Held for another process, who fails with it."""
        return monotonic_s() < self.foster_until_s


def process_name() -> str:
    """A name that no other process has, nor this one when it starts again."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"


def solvers_for(cities: int) -> int:
    """How many solvers so many cities get: half the processors, the rest is for everything else."""
    return min(cities, max(1, (os.cpu_count() or 2) // 2))


class Dispatching:
    """One member of those that share `cities`. `name` is its own in members and leases.

    It starts and stops solvers of its own where none are given.
    """

    def __init__(
        self,
        store: Store,
        redis: Redis,
        cities: Iterable[City],
        journal_folder: Path,
        name: str | None = None,
        solvers: SolverPool | None = None,
    ) -> None:
        self._store, self._redis, self._folder = store, redis, journal_folder
        self._cities = {city.name: city for city in cities}
        self.name = name or process_name()
        self._own_solvers = solvers is None
        self.solvers = solvers or SolverPool(solvers_for(len(self._cities)))
        self._held: dict[str, _Held] = {}
        self._not_before_s: dict[str, float] = {}
        self._pause_s: dict[str, float] = {}
        self._free_since_s: dict[str, float] = {}

    @property
    def cities(self) -> dict[str, CityDispatcher]:
        """The drivers of the cities that this process owns now."""
        return {name: held.driver for name, held in self._held.items()}

    def facts(self) -> dict[str, object]:
        """Who this is and what it has, for the status door."""
        cities = {name: driver.facts() for name, driver in sorted(self.cities.items())}
        return {"name": self.name, "solvers": len(self.solvers.pids), "cities": cities}

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Dispatches its share until `stop` is set, then hands it over at once.

        `ready` is set when it takes part. Raises StartupError when no solver starts.
        """
        reading = asyncio.create_task(_read_engine_later(), name="read the engine")
        try:
            if self._own_solvers:
                await self.solvers.start()
            while not stop.is_set():
                end_if_cancelled()
                if await self._beat() and ready is not None and not ready.is_set():
                    await self._wait_ready()
                    ready.set()
                await pause(stop, BEAT_S)
        finally:
            reading.cancel()
            await self._leave()
            if self._own_solvers:
                await self.solvers.stop()

    # --- the heartbeat ---

    async def _beat(self) -> bool:
        """Renews what is held, and changes it to what is due. False without PostgreSQL."""
        until_s = monotonic_s() + TTL_MS / 1000  # from before the question, to be on the safe side
        for name, held in list(self._held.items()):
            if held.task is not None and held.task.done():
                log.error("city_without_task", city=name)
                del self._held[name]
        epochs = {name: held.lease.epoch for name, held in self._held.items()}
        try:
            async with asyncio.timeout(BEAT_LIMIT_S):
                beat = await self._store.leases.beat(self.name, epochs, TTL_MS, self._cities)
        except AWAY as error:
            end_if_cancelled()
            degraded(Mode.POSTGRES_AWAY, True, error=str(error))
            return False
        degraded(Mode.POSTGRES_AWAY, False)
        mine = frozenset(c for c in self._cities if share(self.name, beat.serving(c), [c]))
        for name in epochs.keys() & self._held.keys():
            held = self._held[name]
            if name not in beat.kept:
                self._lose(held)
                continue
            held.lease.renew(until_s)
            if name not in mine and not held.stop.is_set() and not held.is_fostered:
                log.info("city_given_back", city=name, members=len(beat.members))
                held.stop.set()
        for name in sorted(self._to_take(mine, beat.held)):
            await self._take(name, is_mine=name in mine)
        return True

    def _to_take(self, mine: frozenset[str], held: frozenset[str]) -> set[str]:
        """The free cities that are to be this process's own, and those that nobody takes."""
        now_s = monotonic_s()
        free = self._cities.keys() - self._held.keys() - held
        self._free_since_s = {name: self._free_since_s.get(name, now_s) for name in free}
        orphans = {name for name in free if now_s - self._free_since_s[name] >= ORPHAN_S}
        wanted = (free & mine) | orphans
        return {name for name in wanted if now_s >= self._not_before_s.get(name, 0.0)}

    async def _take(self, name: str, *, is_mine: bool) -> None:
        until_s = monotonic_s() + TTL_MS / 1000
        try:
            async with asyncio.timeout(BEAT_LIMIT_S):
                epoch = await self._store.leases.take(name, self.name, TTL_MS)
        except AWAY as error:
            end_if_cancelled()
            log.warning("city_not_taken", city=name, error=str(error))
            return
        if epoch is None:
            return
        log.info("city_taken", city=name, epoch=epoch, fostered=not is_mine)
        lease = Lease(name, epoch, until_s)
        city = self._cities[name]
        driver = CityDispatcher(self._store, self._redis, self.solvers, city, self._folder, lease)
        held = self._held[name] = _Held(driver, lease)
        if not is_mine:
            held.foster_until_s = monotonic_s() + FOSTER_S
        held.task = asyncio.create_task(self._run(held), name=f"dispatch {name}")
        counters.OWNED.set(len(self._held))

    async def _wait_ready(self) -> None:
        """The cities taken first have read what they start from, or have failed to."""
        begun = list(self._held.values())
        while not all(h.ready.is_set() or h.task is None or h.task.done() for h in begun):
            await asyncio.sleep(0.02)

    # --- one city ---

    def _lose(self, held: _Held) -> None:
        if not held.is_lost and held.task is not None:
            log.warning("city_lost", city=held.lease.city, epoch=held.lease.epoch)
            held.is_lost = True
            held.task.cancel()

    async def _run(self, held: _Held) -> None:
        """Dispatches the city to its end, whatever that is, and frees its lease."""
        city = held.lease.city
        try:
            await held.driver.run(held.stop, held.ready)
        except LeaseLost as error:
            held.is_lost = True
            log.warning("city_lost", city=city, error=str(error))
        except AWAY as error:
            log.warning("city_dropped", city=city, error=str(error))
        except Exception:
            # Of one city: the others of this process are none the worse for it.
            sound = monotonic_s() - held.since_s >= SOUND_S
            pause_s = AGAIN_S if sound else self._pause_s.get(city, AGAIN_S)
            counters.FAILED.labels(city).inc()
            log.exception("city_failed", city=city, again_in_s=pause_s)
            self._not_before_s[city] = monotonic_s() + pause_s
            self._pause_s[city] = min(2 * pause_s, AGAIN_MAX_S)
        finally:
            try:
                if not held.is_lost:
                    await self._release(held.lease)
            finally:
                del self._held[city]
                counters.OWNED.set(len(self._held))

    async def _release(self, lease: Lease) -> None:
        try:
            async with asyncio.timeout(BEAT_LIMIT_S):
                await self._store.leases.release(lease.city, self.name, lease.epoch)
        except Exception as error:
            # Whatever it is: nobody renews the lease any more, so it ends by itself.
            log.warning("city_not_released", city=lease.city, error=str(error))

    async def _leave(self) -> None:
        tasks = [held.task for held in self._held.values() if held.task is not None]
        for held in self._held.values():
            held.stop.set()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=STOP_LIMIT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(BEAT_LIMIT_S):
                await self._store.leases.leave(self.name)
        except AWAY as error:
            log.warning("membership_not_ended", error=str(error))


async def _read_engine_later() -> None:
    await asyncio.sleep(ENGINE_AFTER_S)
    await asyncio.to_thread(read_engine)
