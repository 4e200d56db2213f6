"""The store: every change of an order or a rider in one transaction, and the feed of what happened.

The only owner of SQL. May import SQLAlchemy, asyncpg, dispatch and the codec.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence

from sqlalchemy import event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from api.cancelling import end_if_cancelled
from api.clock import DAY_MS
from api.codec import to_json_text
from api.data_keys import KeyRing
from api.personal import Sealed
from api.settings import KEEP_PERSONAL_DAYS, MASKED_NUMBERS
from api.store import orders, plans, reading, riders
from api.store.away import means_unavailable, telling_unavailable
from api.store.connecting import ANSWER_LIMIT_S, CONNECT_LIMIT_S, SESSION
from api.store.counters import RETRIED, timed
from api.store.digests import Digests
from api.store.hall import Hall
from api.store.housekeeping import Housekeeping
from api.store.keys import KeyStore
from api.store.leases import Leases
from api.store.ledger import LedgerStore
from api.store.migrate import asyncpg_url
from api.store.numbers import SandboxNumbers
from api.store.personal import PersonalStore
from api.store.pooling import replace_dead, single_of
from api.store.quick import Quick
from api.store.sequencing import WAKE_UP, Sequencing
from api.store.timekeeping import ask_time, keep_time
from api.store.values import (
    CityState,
    Created,
    IdempotencyKey,
    Outcome,
    Positioned,
    Receipt,
    RiderOutcome,
    Written,
)
from api.store.webhooks import WebhookStore
from dispatch.commands import Command, Offer, RiderCommand
from dispatch.model import Order, Rider
from geo.errors import Unavailable

POOL_SIZE = 8
POOL_OVERFLOW_MAX = 4
POOL_WAIT_S = 10.0
CLOSE_LIMIT_S = 2.0
EVENTS_MAX = 10_000

UNAVAILABLE: tuple[type[Exception], ...] = (Unavailable, OSError, PoolTimeout)
"""What the store's methods raise when PostgreSQL does not answer. Nothing was changed, or the
answer was lost: ask again with the same key or action id."""

_log = logging.getLogger("hexrun.store")


class Store:
    """PostgreSQL as the truth for orders and riders. Open it with `Store.open`, then `close` it."""

    personal: PersonalStore
    """Names, phones, addresses and notes."""
    numbers: SandboxNumbers
    """Masked numbers."""
    digests: Digests
    """Of what clients sent with their idempotency keys."""

    hall: Hall
    """Claims of orders by riders."""

    def __init__(self, engine: AsyncEngine, url: URL, source: str, quick: Quick) -> None:
        self._engine, self._url, self._quick = engine, url, quick
        self._single = single_of(engine)
        self.source = source
        """Names this database in the streams that are fed from it."""
        self.ledger = LedgerStore(engine)
        self.housekeeping = Housekeeping(engine)
        """Partitions made ahead, and what is too old dropped."""
        self.keys = KeyStore(engine)
        """API keys, revocations and the audit log."""
        self.webhooks = WebhookStore(engine)
        self.leases = Leases(engine)
        self._closing = False
        self._written = asyncio.Event()
        self._waker = asyncio.create_task(self._wake_sequencer(), name="wake the sequencer")
        self._timekeeper = asyncio.create_task(keep_time(self._single), name="keep the time")

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        data_keys: KeyRing | None = None,
        keep_personal_days: int = KEEP_PERSONAL_DAYS,
        masked_numbers: str = MASKED_NUMBERS,
        hall_orders_max: Mapping[str, int] | None = None,
        may_be_away: bool = False,
    ) -> Store:
        """Connect to a migrated database, see `migrate`.

        Without `data_keys` personal data can be erased only. `hall_orders_max` is by city, of its
        policy. One that `may_be_away` is opened in any case; then `source` is empty until a city
        is loaded.

        Raises:
            InvalidValue: `url` is not an address of PostgreSQL.
            One of `UNAVAILABLE`: it does not answer.
        """
        address = asyncpg_url(url)
        engine = create_async_engine(
            address,
            pool_size=POOL_SIZE,
            max_overflow=POOL_OVERFLOW_MAX,
            pool_timeout=POOL_WAIT_S,
            pool_use_lifo=True,  # few and warm: each has what it was asked prepared
            connect_args={
                "timeout": CONNECT_LIMIT_S,
                "command_timeout": ANSWER_LIMIT_S,
                "server_settings": SESSION,
            },
            hide_parameters=True,  # an error in a log must not show what was written
            json_serializer=to_json_text,
            # Bodies are decoded straight into their classes, by whoever reads them.
            json_deserializer=_as_text,
        )
        event.listen(engine.sync_engine, "handle_error", _raise_unavailable)
        replace_dead(engine)
        single = single_of(engine)
        source = ""
        try:
            try:
                with telling_unavailable():
                    await ask_time(single)
                    source = await reading.source(single)
            except UNAVAILABLE:
                end_if_cancelled()
                if not may_be_away:
                    raise
            store = cls(engine, address, source, await Quick.open(address))
            store.hall = Hall(engine, store._written.set, hall_orders_max or {})
            store.numbers = SandboxNumbers(engine, masked_numbers)
            keep_ms = keep_personal_days * DAY_MS
            store.personal = PersonalStore(engine, data_keys, store.numbers, keep_ms)
            store.digests = Digests(engine, data_keys)
            return store
        except BaseException:
            await engine.dispose()
            raise

    async def close(self) -> None:
        """Close every connection."""
        self._closing = True
        self._written.set()
        self._timekeeper.cancel()
        await asyncio.wait({self._waker, self._timekeeper}, timeout=CLOSE_LIMIT_S)
        self._waker.cancel()
        await self._quick.close()
        await self._engine.dispose()

    async def ping(self) -> None:
        """Raises one of `UNAVAILABLE` when PostgreSQL does not answer."""
        async with self._single.connect() as connection:
            await connection.execute(text("SELECT 1"))

    # --- orders ------------------------------------------------------------------------------

    async def create_order(
        self,
        order: Order,
        at_ms: int,
        *,
        idempotency: IdempotencyKey | None,
        open_at_ms: int | None = None,
        personal: Sealed | None = None,
    ) -> Created:
        """Place a quoted order at `at_ms`: row, events and, with a key, the answer in one go.

        `personal`, of `store.personal.seal_order`, is written with it.

        It waits as scheduled until `open_at_ms`, where that is later than `at_ms`.
        The same key with the same body gives the first answer again, whatever `order` is now.

        Raises:
            Conflict: the key was used with another body, the id exists, or it is not quoted.
            InvalidValue: a text contains U+0000.
        """
        with timed("create_order"):
            created = await self._quick.create(order, at_ms, idempotency, open_at_ms, personal)
            if created is None:
                RETRIED.labels("create_order").inc()
                created = await orders.create(
                    self._engine, order, at_ms, idempotency, open_at_ms, personal
                )
        if not created.replayed:
            self._written.set()
        return created

    async def replay(self, idempotency: IdempotencyKey) -> Created | None:
        """The answer that the key has already, None when it has none.

        Raises:
            Conflict: the key was used with another body.
        """
        return await orders.replay(self._single, idempotency)

    async def run(
        self,
        order_id: str,
        command: Command,
        *,
        action_id: str | None = None,
        epoch: tuple[str, int] | None = None,
    ) -> Outcome:
        """Run the command on the locked order: state, attempt, events, outbox in one transaction.

        A refusal is an outcome, not an error. An `action_id` belongs to the order and to the
        command's `rider_id`, if it has one: the same again gives the first outcome again and
        changes nothing, refused or not. Beyond `apply`, a rider who is registered and off shift
        accepts nothing (`not_on_shift`). With `epoch`, a city and its epoch, only the owner of
        that lease gets through.

        Raises:
            NotFound: no such order.
            StaleEpoch: `epoch` is not the lease's.
            Conflict: the action id was used for another command.
        """
        with timed("run_order"):
            outcome = None if epoch else await self._quick.run(order_id, command, action_id)
            if outcome is None:
                RETRIED.labels("run_order").inc(0 if epoch else 1)
                outcome = await orders.run(self._engine, order_id, command, action_id, epoch=epoch)
        if outcome.events and not outcome.replayed:
            self._written.set()
        return outcome

    async def write_plan(
        self,
        city: str,
        epoch: int,
        offers: Sequence[tuple[str, Offer]],
        receipts: Sequence[Receipt] = (),
    ) -> Written:
        """Apply each (order id, offer) on its own; what has moved is dropped, the rest commits.

        Dropped with the code of its refusal, `unknown_order`, `other_city`, or `busy` when another
        holds its row: nothing here waits. Receipts are kept for the offers that stand. One
        statement a table, however many offers.

        Raises:
            StaleEpoch: `epoch` is not the lease's; nothing was written.
        """
        with timed("write_plan"):
            written = await plans.write(self._engine, city, epoch, offers, receipts)
        if written.committed:
            self._written.set()
        return written

    async def order(self, order_id: str) -> Order | None:
        """The order as it stands."""
        return await reading.order(self._single, order_id)

    async def orders_of_rider(self, rider_id: str) -> list[Order]:
        """The orders whose live assignment is the rider's, offers included, by id."""
        return await reading.orders_of_rider(self._single, rider_id)

    async def live_orders(self, city: str) -> list[Order]:
        """The orders that have not ended (`done` has not: it can be completed), oldest first."""
        async with self._single.connect() as connection:
            return await reading.live_orders(connection, city)

    async def counts(
        self, city: str, since_ms: int = 0, *, tenant: str | None = None
    ) -> dict[str, int]:
        """Orders by state, of all or of a tenant: the live, and those placed since `since_ms`."""
        return await reading.counts(self._single, city, since_ms, tenant)

    # --- riders ------------------------------------------------------------------------------

    async def register_rider(self, rider: Rider) -> Rider:
        """Add him, off shift; or change what is known of him, unless he is on shift.

        Raises:
            Conflict: he is on shift and something differs, or has another tenant or city.
        """
        return (await self.register_once(rider, None, 0))[0]

    async def register_once(
        self,
        rider: Rider,
        idempotency: IdempotencyKey | None,
        at_ms: int,
        *,
        keep_skills: bool = False,
        name: str | None = None,
        phone: str | None = None,
    ) -> tuple[Rider, bool]:
        """`register_rider`, and whether the key was known: then he is as he was answered first.

        With `keep_skills` one who is known keeps his own. A `name` or `phone` is written with him,
        unless the key was known; None leaves what is known of him.

        Raises:
            Conflict: as there, or the key was used with another body.
        """

        async def beside(connection: AsyncConnection) -> None:
            await self.personal.merge_rider(connection, rider, name, phone, at_ms)

        with timed("register_rider"):
            return await riders.register(
                self._engine, rider, idempotency, at_ms, keep_skills=keep_skills, beside=beside
            )

    async def run_rider(
        self, rider_id: str, command: RiderCommand, *, idempotency: IdempotencyKey | None = None
    ) -> RiderOutcome:
        """Run a rider's command on his locked row. A refusal is an outcome, not an error.

        A known key gives the first outcome again, with `replayed`.

        Raises:
            NotFound: no such rider.
            Conflict: the key was used with another body.
        """
        with timed("run_rider"):
            outcome = await riders.run(self._engine, rider_id, command, idempotency)
        if outcome.events:
            self._written.set()
        return outcome

    async def replay_rider(self, idempotency: IdempotencyKey) -> RiderOutcome | None:
        """The outcome that the key of a rider's command has already, None when it has none.

        Raises:
            Conflict: the key was used with another body.
        """
        return await riders.replay(self._single, idempotency)

    async def rider(self, rider_id: str) -> Rider | None:
        """The rider as he stands."""
        return await reading.rider(self._single, rider_id)

    async def riders_on_shift(self, city: str) -> list[Rider]:
        """By id."""
        async with self._single.connect() as connection:
            return await reading.riders_on_shift(connection, city)

    async def count_riders_on_shift(self, city: str, *, tenant: str | None = None) -> int:
        """How many they are, of all or of a tenant."""
        return await reading.count_riders_on_shift(self._single, city, tenant)

    # --- the feed ----------------------------------------------------------------------------

    async def load_city(self, city: str) -> CityState:
        """Live orders and riders on shift, and the position from which to follow the feed.

        All three are of one snapshot. The rows have every event up to `position`, and may have
        later ones that the sequencer has not reached. So whoever follows the feed from
        `position` misses nothing and must ignore an event whose `seq` is not above the
        `version` he has, and one of an order that he does not know unless it is `Placed` (the
        order ended before the snapshot).
        """
        if not self.source:
            self.source = await reading.source(self._single)
        return await reading.load_city(self._engine, city)

    async def events_after(
        self, position: int, city: str | None, limit: int, *, tenant: str | None = None
    ) -> list[Positioned]:
        """The first `limit` (10 000 at most) events after `position`, of a city or a tenant.

        Positions grow in the order in which events become visible: one that is read to
        position p never gets a new event at or below p. Positions that are missing in the answer
        are other cities' or tenants'.
        """
        limit = min(limit, EVENTS_MAX)
        return await reading.events_after(self._single, position, city, limit, tenant)

    async def first_kept(self) -> int:
        """The position from which on the whole feed is kept; 0 while nothing of it is gone."""
        async with self._single.connect() as connection:
            return await reading.first_kept(connection)

    async def last_position(self, city: str | None = None) -> int:
        """The last position given in the city, or at all; 0 when there is none."""
        async with self._single.connect() as connection:
            return await reading.last_position(connection, city)

    async def open_sequencing(self) -> Sequencing:
        """A session of its own for the sequencer. Raises one of `UNAVAILABLE`."""
        return await Sequencing.open(self._url)

    async def _wake_sequencer(self) -> None:
        """Tell the sequencer, after commits and one for many, that the outbox has something.

        Not inside the writing transactions: NOTIFY makes PostgreSQL commit one at a time. A
        wake-up that is lost costs one poll of the sequencer.
        """
        while not self._closing:
            await self._written.wait()
            self._written.clear()
            try:
                await self._quick.tell(WAKE_UP)
            except UNAVAILABLE as error:
                _log.debug("cannot wake the sequencer: %s", error)


def _as_text(value: str) -> str:
    return value


def _raise_unavailable(context: ExceptionContext) -> None:
    """In the place of SQLAlchemy's error, when the server is the reason for it."""
    if isinstance(context.original_exception, TimeoutError):
        context.is_disconnect = True  # it has gone silent, and those beside it probably too
    state = getattr(context.original_exception, "sqlstate", None)
    if context.is_disconnect or means_unavailable(state):
        raise Unavailable(f"PostgreSQL: {context.original_exception}")
