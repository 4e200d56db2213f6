"""Writes changes of orders and riders set-based: one statement a table, however many there are.

May import SQLAlchemy, dispatch and the codec. The caller holds the locks of the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.codec import decode_fact, make_event, subject_of, to_json_text
from dispatch import events as e
from dispatch.events import Event, RiderEvent, kind_of
from dispatch.model import AssignmentState, Order, Rider
from dispatch.transitions import evolve_rider, fold

_ATTEMPT_ENDS = {
    e.Declined: AssignmentState.DECLINED,
    e.TimedOut: AssignmentState.TIMED_OUT,
    e.Withdrawn: AssignmentState.WITHDRAWN,
    e.Cancelled: AssignmentState.WITHDRAWN,
    e.Dropped: AssignmentState.DROPPED,
    e.Finished: AssignmentState.FINISHED,
    e.Returned: AssignmentState.FINISHED,
    e.Failed: AssignmentState.FINISHED,
}


@dataclass(frozen=True, slots=True)
class Change:
    """An order before and after some events of its own."""

    before: Order
    after: Order
    events: tuple[Event, ...]


def change_by(order: Order, events: tuple[Event, ...]) -> Change:
    """The change that the events of `apply` make."""
    return Change(order, fold(order, events), events)


async def insert_order(connection: AsyncConnection, change: Change) -> None:
    """A new order with its first events."""
    o = change.after
    await connection.execute(
        _INSERT_ORDER,
        {
            "id": o.id,
            "tenant": o.tenant,
            "city": o.city,
            "state": o.state.value,
            "version": o.version,
            "job_type": o.job_type,
            "customer_id": o.customer_id,
            "merchant_id": o.merchant_id,
            "price_fen": o.price_fen,
            "created_at_ms": o.created_at_ms,
            "expires_at_ms": o.expires_at_ms,
            "promise_to_ms": o.promise_to_ms,
            "body": to_json_text(o),
        },
    )
    await insert_events(connection, ((v, o.tenant, o.city) for v in change.events))


async def update_orders(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Orders that exist and are locked: their rows, attempts, events and outbox rows."""
    if not changes:
        return
    after = [c.after for c in changes]
    done = await connection.execute(
        _UPDATE_ORDERS,
        {
            "ids": [o.id for o in after],
            "seen": [c.before.version for c in changes],
            "states": [o.state.value for o in after],
            "versions": [o.version for o in after],
            "rider_ids": [o.assignment.rider_id if o.assignment else None for o in after],
            "bodies": [to_json_text(o) for o in after],
        },
    )
    assert done.rowcount == len(changes), "an order that is written is not locked"
    await _write_attempts(connection, changes)
    await insert_events(
        connection, ((v, c.after.tenant, c.after.city) for c in changes for v in c.events)
    )


async def _write_attempts(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    ended = [
        (c.after.id, c.before.assignment.number, _how_it_ended(c))
        for c in changes
        if c.before.assignment is not None and c.after.assignment is None
    ]
    if ended:
        ids, numbers, states = zip(*ended, strict=True)
        await connection.execute(
            _END_ATTEMPTS,
            {"ids": list(ids), "numbers": list(numbers), "states": [s.value for s in states]},
        )
    live = [
        (c.after.id, c.after.assignment)
        for c in changes
        if c.after.assignment is not None and c.after.assignment != c.before.assignment
    ]
    if live:
        await connection.execute(
            _WRITE_ATTEMPTS,
            {
                "ids": [order_id for order_id, _ in live],
                "numbers": [a.number for _, a in live],
                "rider_ids": [a.rider_id for _, a in live],
                "states": [a.state.value for _, a in live],
                "offered": [a.offered_at_ms for _, a in live],
                "deadlines": [a.deadline_ms for _, a in live],
                "routes": [to_json_text(a.route) for _, a in live],
            },
        )


def _how_it_ended(change: Change) -> AssignmentState:
    return next(_ATTEMPT_ENDS[type(v.fact)] for v in change.events if type(v.fact) in _ATTEMPT_ENDS)


async def update_rider(
    connection: AsyncConnection, rider: Rider, events: tuple[RiderEvent, ...]
) -> Rider:
    """A rider that exists and is locked: his row, events and outbox rows. Gives him after them."""
    for event in events:
        rider = evolve_rider(rider, event)
    await connection.execute(
        _UPDATE_RIDER,
        {
            "id": rider.id,
            "state": rider.state.value,
            "version": rider.version,
            "body": to_json_text(rider),
        },
    )
    await insert_events(connection, ((v, rider.tenant, rider.city) for v in events))
    return rider


async def insert_events(
    connection: AsyncConnection, events: Iterable[tuple[Event | RiderEvent, str, str]]
) -> None:
    """(event, tenant, city): append them and put them into the outbox.

    Ids grow in the order given. The order or rider of an event is locked, or not yet visible to
    anyone, so ids grow along each subject's life also across transactions.
    """
    rows = [(*subject_of(v), v, tenant, city) for v, tenant, city in events]
    if not rows:
        return
    await connection.execute(
        _INSERT_EVENTS,
        {
            "kinds_of_subject": [r[0] for r in rows],
            "subjects": [r[1] for r in rows],
            "seqs": [r[2].seq for r in rows],
            "tenants": [r[3] for r in rows],
            "cities": [r[4] for r in rows],
            "at": [r[2].at_ms for r in rows],
            "kinds": [kind_of(r[2].fact) for r in rows],
            "bodies": [to_json_text(r[2].fact) for r in rows],
        },
    )


def event_from_row(row: Any) -> Event | RiderEvent:
    """The event of a row of `events` by column names, whose body is JSON text."""
    fact = decode_fact(row["kind"], row["body"])
    return make_event(row["subject_kind"], row["subject_id"], row["seq"], row["at_ms"], fact)


_INSERT_ORDER = text("""
INSERT INTO orders (id, tenant, city, state, version, job_type, customer_id, merchant_id,
                    price_fen, created_at_ms, expires_at_ms, promise_to_ms, body)
VALUES (:id, :tenant, :city, :state, :version, :job_type, :customer_id, :merchant_id,
        :price_fen, :created_at_ms, :expires_at_ms, :promise_to_ms, CAST(:body AS jsonb))
""")

_UPDATE_ORDERS = text("""
UPDATE orders AS o
SET state = n.state, version = n.version, rider_id = n.rider_id, body = CAST(n.body AS jsonb)
FROM unnest(CAST(:ids AS text[]), CAST(:seen AS integer[]), CAST(:states AS text[]),
            CAST(:versions AS integer[]), CAST(:rider_ids AS text[]), CAST(:bodies AS text[]))
     AS n(id, seen, state, version, rider_id, body)
WHERE o.id = n.id AND o.version = n.seen
""")

_END_ATTEMPTS = text("""
UPDATE assignments AS a SET state = n.state
FROM unnest(CAST(:ids AS text[]), CAST(:numbers AS integer[]), CAST(:states AS text[]))
     AS n(order_id, number, state)
WHERE a.order_id = n.order_id AND a.number = n.number
""")

_WRITE_ATTEMPTS = text("""
INSERT INTO assignments (order_id, number, rider_id, state, offered_at_ms, deadline_ms, route)
SELECT n.order_id, n.number, n.rider_id, n.state, n.offered, n.deadline, CAST(n.route AS jsonb)
FROM unnest(CAST(:ids AS text[]), CAST(:numbers AS integer[]), CAST(:rider_ids AS text[]),
            CAST(:states AS text[]), CAST(:offered AS bigint[]), CAST(:deadlines AS bigint[]),
            CAST(:routes AS text[]))
     AS n(order_id, number, rider_id, state, offered, deadline, route)
ON CONFLICT (order_id, number) DO UPDATE SET state = excluded.state
""")

_UPDATE_RIDER = text("""
UPDATE riders SET state = :state, version = :version, body = CAST(:body AS jsonb) WHERE id = :id
""")

_INSERT_EVENTS = text("""
WITH written AS (
    INSERT INTO events (subject_kind, subject_id, seq, tenant, city, at_ms, kind, body)
    SELECT n.subject_kind, n.subject_id, n.seq, n.tenant, n.city, n.at_ms, n.kind,
           CAST(n.body AS jsonb)
    FROM unnest(CAST(:kinds_of_subject AS text[]), CAST(:subjects AS text[]),
                CAST(:seqs AS integer[]), CAST(:tenants AS text[]), CAST(:cities AS text[]),
                CAST(:at AS bigint[]), CAST(:kinds AS text[]), CAST(:bodies AS text[]))
         WITH ORDINALITY AS n(subject_kind, subject_id, seq, tenant, city, at_ms, kind, body, place)
    ORDER BY n.place
    RETURNING id
)
INSERT INTO outbox (event_id) SELECT id FROM written
""")
