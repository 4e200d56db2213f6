"""Carries out what one city's dispatcher asks for; may import the store, the solvers, dispatch.

Every decision and every write is answered, whatever happens: a round that waits for ever would
leave its orders and riders waiting too. What goes wrong with one order alone is logged, counted
and tried again later; the city goes on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog

from api.cancelling import end_if_cancelled
from api.clock import monotonic_s
from api.dispatching import counters
from api.dispatching.backoff import Backoff
from api.dispatching.build import City
from api.dispatching.lease import Lease, LeaseLost
from api.journal import PlanMade
from api.metrics import Mode, degraded
from api.solver import SolverPool
from api.store import UNAVAILABLE, Receipt, Store
from api.traces import of_round, on_order, tracing
from dispatch.commands import Offer
from dispatch.dispatcher import UNWRITABLE, Ask, Decide, Effect, PlanWritten, WritePlan
from dispatch.plan import Plan
from dispatch.policy import Policy
from dispatch.referee import check_plan
from dispatch.snapshot import Snapshot
from geo.errors import HexrunError, StaleEpoch

log = structlog.get_logger(__name__)

SOLVER_LIMIT_S = 5.0
ROUND_LIMIT_S = 20.0
WRITE_LIMIT_S = 5.0
ASK_LIMIT_S = 5.0
ASKS_AT_ONCE = 3
NOT_WRITTEN = "store_failed"
Offers = tuple[tuple[str, Offer], ...]
Dropped = tuple[tuple[str, str], ...]
AWAY: tuple[type[Exception], ...] = (*UNAVAILABLE, TimeoutError)


@dataclass(frozen=True, slots=True)
class Made:
    """A plan, and what the journal keeps of it."""

    record: PlanMade
    plan: Plan


class Effects:
    """Of one city under one lease. `answer` takes `Made` and `PlanWritten` back to the loop."""

    def __init__(
        self,
        store: Store,
        solvers: SolverPool,
        city: City,
        lease: Lease,
        answer: Callable[[Made | PlanWritten], Awaitable[None]],
    ) -> None:
        self._store, self._solvers, self._answer = store, solvers, answer
        self._city, self._lease = city, lease
        self._asking: set[tuple[str, str]] = set()
        self._placed_ms: dict[str, int] = {}  # of the last round, for traces
        self._backoff = Backoff()
        self._asks = asyncio.Semaphore(ASKS_AT_ONCE)

    async def carry_out(self, effect: Effect) -> None:
        """Raises LeaseLost when another one owns the city."""
        if isinstance(effect, Decide):
            await self._decide(effect.snapshot)
        elif isinstance(effect, WritePlan):
            await self._write(effect)
        else:
            await self._ask(effect)

    async def _decide(self, snapshot: Snapshot) -> None:
        waiting, riders = int(snapshot.orders.waiting.sum()), len(snapshot.riders.id)
        with of_round(self._city.name, snapshot.at_ms, orders=waiting, riders=riders) as span:
            made = await self._make(snapshot)
            record = made.record
            span.set_attributes({"solver": record.solver, "ms": record.ms})
            span.set_attributes({"offers": len(made.plan.offers), "refused": record.refused})
        if tracing():
            placed_ms = snapshot.orders.placed_ms.tolist()
            self._placed_ms = dict(zip(snapshot.orders.id, placed_ms, strict=True))
        await self._answer(made)

    async def _make(self, snapshot: Snapshot) -> Made:
        started_s = monotonic_s()
        self._tell_stale(snapshot)
        try:
            async with asyncio.timeout(ROUND_LIMIT_S):
                plan, broken = await self._checked_plan(snapshot)
        except TimeoutError:
            end_if_cancelled()
            log.error("round_too_long", city=self._city.name, at_ms=snapshot.at_ms)
            plan, broken = await asyncio.to_thread(_no_plan, snapshot), []
        ms = (monotonic_s() - started_s) * 1000
        counters.ROUNDS.labels(self._city.name, plan.solver).inc()
        counters.ROUND_SECONDS.labels(plan.solver).observe(ms / 1000)
        if broken:
            counters.REFUSED.labels(self._city.name).inc()
            log.error("plan_refused", city=self._city.name, at_ms=plan.at_ms, broken=broken[:5])
        made = PlanMade(plan.at_ms, plan.solver, plan.digest(), round(ms, 3), bool(broken))
        return Made(made, plan)

    async def _checked_plan(self, snapshot: Snapshot) -> tuple[Plan, list[str]]:
        """The referee and the greedy way run in a thread, so that the loop keeps its lease."""
        policy = self._city.policy
        try:
            plan = await self._solvers.decide(snapshot, policy, SOLVER_LIMIT_S)
            if plan is None:
                plan = await asyncio.to_thread(_greedy_plan, snapshot, policy)
        except HexrunError as error:
            log.error("no_plan", city=self._city.name, at_ms=snapshot.at_ms, error=str(error))
            plan = await asyncio.to_thread(_no_plan, snapshot)
        return plan, await asyncio.to_thread(check_plan, snapshot, plan, policy)

    def _tell_stale(self, snapshot: Snapshot) -> None:
        present = snapshot.riders.on_shift & (snapshot.riders.shift_end_ms > snapshot.at_ms)
        stale, riders = int((present & snapshot.riders.stale).sum()), int(present.sum())
        city = self._city.name
        counters.STALE.labels(city).set(stale)
        counters.ON_SHIFT.labels(city).set(riders)
        counters.WAITING.labels(city).set(int(snapshot.orders.waiting.sum()))
        degraded(Mode.POSITIONS_STALE, 2 * stale > riders, self._city.name, riders=riders)

    async def _write(self, effect: WritePlan) -> None:
        at_ms = effect.plan.at_ms
        dropped = await self._written(effect, effect.offers)
        if tracing():
            self._trace_offers(effect, {order_id for order_id, _ in dropped})
        for _, reason in dropped:
            counters.DROPPED.labels(self._city.name, reason).inc()
        if dropped:
            log.info("offers_dropped", city=self._city.name, at_ms=at_ms, dropped=dropped[:5])
        await self._answer(PlanWritten(at_ms=at_ms, dropped=dropped))

    async def _written(self, effect: WritePlan, offers: Offers) -> Dropped:
        """The offers that do not stand, and why.

        Those that cannot be written together are written one by one, so that only the bad are lost.
        """
        at_ms, city = effect.plan.at_ms, self._city.name
        try:
            async with asyncio.timeout(WRITE_LIMIT_S):
                written = await self._store.write_plan(
                    city, self._lease.epoch, offers, _receipts(effect, offers)
                )
            return written.dropped
        except StaleEpoch as error:
            raise LeaseLost(str(error)) from error
        except AWAY as error:
            end_if_cancelled()
            self._lease.doubt()
            log.error("plan_not_written", city=city, at_ms=at_ms, error=str(error))
            return tuple((order_id, NOT_WRITTEN) for order_id, _ in offers)
        except Exception as error:
            end_if_cancelled()
            if len(offers) == 1:
                ((order_id, _),) = offers
                self._unwritable(order_id, "Offer", error)
                return ((order_id, UNWRITABLE),)
            log.error("plan_not_written", city=city, at_ms=at_ms, error=_line(error))
        return await self._one_by_one(effect, offers)

    async def _one_by_one(self, effect: WritePlan, offers: Offers) -> Dropped:
        """What is left when the lease no longer holds is not written."""
        dropped: list[tuple[str, str]] = []
        for offer in offers:
            if self._lease.holds:
                dropped += await self._written(effect, (offer,))
            else:
                dropped.append((offer[0], NOT_WRITTEN))
        return tuple(dropped)

    def _unwritable(self, order_id: str, what: str, error: Exception, **facts: object) -> None:
        """Neither the store's nor the lease's trouble, but this order's own."""
        counters.UNWRITABLE.labels(self._city.name).inc()
        city, why = self._city.name, _line(error)
        log.error(
            "order_unwritable", city=city, order_id=order_id, command=what, error=why, **facts
        )

    def _trace_offers(self, effect: WritePlan, dropped: set[str]) -> None:
        """One span for each offer that stands, from the order's placing until now."""
        facts = {"solver": effect.plan.solver, "city": self._city.name}
        for order_id, command in effect.offers:
            if order_id not in dropped:
                with on_order(
                    "offer",
                    order_id,
                    since_ms=self._placed_ms.get(order_id),
                    in_round=(self._city.name, effect.plan.at_ms),
                    rider=command.rider_id,
                    **facts,
                ):
                    pass

    async def _ask(self, effect: Ask) -> None:
        """A few at a time, so that a flood of due timers leaves connections to plan and lease."""
        key = effect.order_id, type(effect.command).__name__
        if key in self._asking or self._backoff.rests(effect.order_id):
            return
        self._asking.add(key)
        epoch = self._city.name, self._lease.epoch
        try:
            async with self._asks:
                if not self._lease.holds:
                    return  # the dispatcher asks again
                async with asyncio.timeout(ASK_LIMIT_S):
                    outcome = await self._store.run(effect.order_id, effect.command, epoch=epoch)
        except StaleEpoch as error:
            raise LeaseLost(str(error)) from error
        except AWAY as error:
            end_if_cancelled()
            self._lease.doubt()
            log.warning("ask_failed", order_id=effect.order_id, error=str(error))
            return
        except HexrunError as error:
            log.warning("ask_failed", order_id=effect.order_id, error=str(error))
            return
        except Exception as error:
            end_if_cancelled()
            rests_s = self._backoff.failed(effect.order_id)
            self._unwritable(effect.order_id, key[1], error, rests_s=rests_s)
            return
        finally:
            self._asking.discard(key)
        self._backoff.worked(effect.order_id)
        if outcome.refusal is not None:
            log.info("ask_refused", order_id=effect.order_id, code=outcome.refusal.code)


# The engine's compiler takes a second of CPU to start. A dispatcher has solvers for that, and must
# be back soon when it was killed: it reads the engine when it is needed, or a little later.


def read_engine() -> None:
    """Read the engine now, for the day on which the solvers are away; in any thread."""
    import dispatch.engine  # noqa: F401


def _greedy_plan(snapshot: Snapshot, policy: Policy) -> Plan:
    from dispatch.engine import GREEDY, decide

    return decide(snapshot, policy, GREEDY)


def _no_plan(snapshot: Snapshot) -> Plan:
    from dispatch.engine import no_plan

    return no_plan(snapshot)


def _line(error: Exception) -> str:
    """What it says, without the details of PostgreSQL, which quote rows."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _receipts(effect: WritePlan, offers: Offers) -> list[Receipt]:
    """Why these riders; `stale` says that the rider was assumed where he was last seen."""
    planned = {o.order_id: o for o in effect.plan.offers}
    return [
        Receipt(
            order_id=order_id,
            round_at_ms=effect.plan.at_ms,
            body={
                "rider_id": command.rider_id,
                "solver": effect.plan.solver,
                "cost": planned[order_id].cost,
                "pickup_ms": planned[order_id].pickup_ms,
                "done_ms": planned[order_id].done_ms,
                "stale": planned[order_id].stale,
            },
        )
        for order_id, command in offers
    ]
