"""Writes changes of orders and riders set-based: one statement, however many there are.

May import asyncpg, dispatch and the codec. An order is written only where it is still at the
version that the change was made from, and everything else of the change only where the order was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from api.clock import DAY_MS
from api.codec import decode_fact, make_event, to_json_text
from api.store.away import telling_unavailable
from api.store.statement import Statement, driver_of
from dispatch import events as e
from dispatch.events import Event, RiderEvent, kind_of
from dispatch.ledger import Transfer, transfers_of
from dispatch.lifecycle import ASSIGNMENT
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


def day_of(at_ms: int) -> int:
    """Days since 1970 UTC."""
    return at_ms // DAY_MS


def change_by(order: Order, events: tuple[Event, ...]) -> Change:
    """The change that the events of `apply` make."""
    return Change(order, fold(order, events), events)


# --- orders ------------------------------------------------------------------------------------


async def insert_order(connection: AsyncConnection, change: Change) -> None:
    """A new order with its first events, their outbox rows and what is held of its price."""
    statement = Statement()
    add_order(statement, change)
    await statement.ask(await driver_of(connection), "SELECT id FROM moved")


async def update_orders(connection: AsyncConnection, changes: Sequence[Change]) -> None:
    """Orders that exist and are locked: rows, attempts, events, outbox rows and transfers."""
    if not changes:
        return
    statement = Statement()
    add_changes(statement, changes)
    driver = await driver_of(connection)
    done = await statement.ask(driver, "SELECT id FROM moved")
    assert len(done) == len(changes), "an order that is written is not locked"
    # One statement cannot insert a row and move it: a claim is offered in the first.
    for change in changes:
        live = change.after.assignment
        if change.before.assignment is None and live and live.state is not ASSIGNMENT.first:
            with telling_unavailable():
                await driver.execute(_MOVE_ATTEMPT, change.after.id, live.number, live.state.value)


def add_order(statement: Statement, change: Change, *, where: str = "true") -> None:
    """The parts of `insert_order`; nothing is written unless `where` holds."""
    o = change.after
    statement.add(
        "moved",
        _INSERT_ORDER.format(where=where),
        o.id,
        o.tenant,
        o.city,
        o.state.value,
        o.version,
        o.job_type,
        o.customer_id,
        o.merchant_id,
        o.price_fen,
        o.created_at_ms,
        o.expires_at_ms,
        o.promise_to_ms,
        to_json_text(o),
    )
    _add_events(statement, "order", change.events, [o.id] * len(change.events))
    _add_transfers(statement, transfers_of(o, change.events))


def add_changes(statement: Statement, changes: Sequence[Change], *, where: str = "true") -> None:
    """The parts of `update_orders`; an order that has moved, or all unless `where`, is left out.

    The part `moved` has the `id` of each order that was written.
    """
    after = [c.after for c in changes]
    statement.add(
        "moved",
        _UPDATE_ORDERS.format(where=where),
        [o.id for o in after],
        [c.before.version for c in changes],
        [o.state.value for o in after],
        [o.version for o in after],
        [o.assignment.rider_id if o.assignment else None for o in after],
        [to_json_text(o) for o in after],
    )
    _add_attempts(statement, changes)
    _add_events(
        statement,
        "order",
        [event for c in changes for event in c.events],
        [c.after.id for c in changes for _ in c.events],
    )
    _add_transfers(statement, [t for c in changes for t in transfers_of(c.after, c.events)])


def _add_attempts(statement: Statement, changes: Sequence[Change]) -> None:
    """New attempts are inserted, the state of known ones changed."""
    fresh, states = [], []
    for change in changes:
        was, live = change.before.assignment, change.after.assignment
        if was is not None and live is None:
            states.append((change.after.id, was.number, _how_it_ended(change).value))
        elif live is not None and was is None:
            fresh.append((change.after.id, live))
        elif live is not None and was is not None and live.state is not was.state:
            states.append((change.after.id, live.number, live.state.value))
    if states:
        ids, numbers, to = zip(*states, strict=True)
        statement.add("tried", _MOVE_ATTEMPTS, list(ids), list(numbers), list(to))
    if fresh:
        statement.add(
            "trying",
            _INSERT_ATTEMPTS,
            [order_id for order_id, _ in fresh],
            [a.number for _, a in fresh],
            [a.rider_id for _, a in fresh],
            [ASSIGNMENT.first.value] * len(fresh),
            [a.offered_at_ms for _, a in fresh],
            [a.deadline_ms for _, a in fresh],
            [to_json_text(a.route) for _, a in fresh],
        )


def _how_it_ended(change: Change) -> AssignmentState:
    return next(_ATTEMPT_ENDS[type(v.fact)] for v in change.events if type(v.fact) in _ATTEMPT_ENDS)


def _add_events(
    statement: Statement, kind: str, events: Sequence[Event | RiderEvent], subjects: list[str]
) -> None:
    """Append them and put them into the outbox; tenant, city and day are those of `moved`.

    Ids grow in the order given. The order or rider of an event is locked, or not yet visible to
    anyone, so ids grow along each subject's life also across transactions.
    """
    statement.add(
        "happened",
        _INSERT_EVENTS,
        kind,
        subjects,
        [v.seq for v in events],
        [v.at_ms for v in events],
        [kind_of(v.fact) for v in events],
        [to_json_text(v.fact) for v in events],
    )
    statement.add("told", "INSERT INTO outbox (event_id, day) SELECT id, day FROM happened")


def _add_transfers(statement: Statement, transfers: Sequence[Transfer]) -> None:
    if transfers:
        statement.add(
            "paid",
            _INSERT_TRANSFERS,
            [t.order_id for t in transfers],
            [t.kind.value for t in transfers],
            [t.debit for t in transfers],
            [t.credit for t in transfers],
            [t.fen for t in transfers],
            [t.at_ms for t in transfers],
        )


# --- riders ------------------------------------------------------------------------------------


async def update_rider(
    connection: AsyncConnection, rider: Rider, events: tuple[RiderEvent, ...]
) -> Rider:
    """A rider that exists and is locked: his row, events and outbox rows. Gives him after them."""
    for event in events:
        rider = evolve_rider(rider, event)
    statement = Statement()
    day = day_of(events[-1].at_ms) if events else None
    statement.add(
        "moved",
        _UPDATE_RIDER,
        rider.id,
        rider.state.value,
        rider.version,
        to_json_text(rider),
        day,
    )
    if events:
        _add_events(statement, "rider", events, [rider.id] * len(events))
    await statement.ask(await driver_of(connection), "SELECT id FROM moved")
    return rider


def event_from_row(row: Any) -> Event | RiderEvent:
    """The event of a row of `events` by column names, whose body is JSON text."""
    fact = decode_fact(row["kind"], row["body"])
    return make_event(row["subject_kind"], row["subject_id"], row["seq"], row["at_ms"], fact)


async def events_by_id(
    driver: asyncpg.Connection, days: Sequence[int], ids: Sequence[int]
) -> dict[int, Any]:
    """Rows of `events` by id. The days are given so that no other partition is looked at."""
    with telling_unavailable():
        rows = await driver.fetch(_EVENTS_BY_ID, sorted(set(days)), list(ids))
    return {row["id"]: row for row in rows}


_EVENTS_BY_ID = """
SELECT id, subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body FROM events
WHERE day = ANY($1::integer[]) AND id = ANY($2::bigint[])
"""

_INSERT_ORDER = f"""
INSERT INTO orders (id, tenant, city, state, version, job_type, customer_id, merchant_id,
                    price_fen, created_at_ms, expires_at_ms, promise_to_ms, body)
SELECT $1::text, $2::text, $3::text, $4::text, $5::integer, $6::text, $7::text, $8::text,
       $9::bigint, $10::bigint, $11::bigint, $12::bigint, $13::text::jsonb WHERE {{where}}
RETURNING id, tenant, city, (created_at_ms / {DAY_MS})::integer AS day
"""

_UPDATE_ORDERS = f"""
UPDATE orders AS o
SET state = n.state, version = n.version, rider_id = n.rider_id, body = n.body::jsonb
FROM unnest($1::text[], $2::integer[], $3::text[], $4::integer[], $5::text[], $6::text[])
     AS n(id, seen, state, version, rider_id, body)
WHERE o.id = n.id AND o.version = n.seen AND {{where}}
RETURNING o.id, o.tenant, o.city, (o.created_at_ms / {DAY_MS})::integer AS day
"""

_MOVE_ATTEMPTS = """
UPDATE assignments AS a SET state = n.state
FROM unnest($1::text[], $2::integer[], $3::text[]) AS n(order_id, number, state)
     JOIN moved ON moved.id = n.order_id
WHERE a.order_id = n.order_id AND a.number = n.number
"""

_MOVE_ATTEMPT = "UPDATE assignments SET state = $3 WHERE order_id = $1 AND number = $2"

_INSERT_ATTEMPTS = """
INSERT INTO assignments (order_id, number, rider_id, state, offered_at_ms, deadline_ms, route)
SELECT n.order_id, n.number, n.rider_id, n.state, n.offered, n.deadline, n.route::jsonb
FROM unnest($1::text[], $2::integer[], $3::text[], $4::text[], $5::bigint[], $6::bigint[],
            $7::text[])
     AS n(order_id, number, rider_id, state, offered, deadline, route)
     JOIN moved ON moved.id = n.order_id
"""

_UPDATE_RIDER = """
UPDATE riders SET state = $2, version = $3, body = $4::text::jsonb, day = coalesce($5, day)
WHERE id = $1 RETURNING id, tenant, city, day
"""

_INSERT_EVENTS = """
INSERT INTO events (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)
SELECT $1::text, n.subject_id, n.seq, moved.day, moved.tenant, moved.city, n.at_ms, n.kind,
       n.body::jsonb
FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::text[], $6::text[])
     WITH ORDINALITY AS n(subject_id, seq, at_ms, kind, body, place)
     JOIN moved ON moved.id = n.subject_id
ORDER BY n.place
RETURNING id, day
"""

_INSERT_TRANSFERS = """
INSERT INTO transfers (order_id, kind, debit, credit, fen, at_ms)
SELECT n.* FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])
     AS n(order_id, kind, debit, credit, fen, at_ms)
     JOIN moved ON moved.id = n.order_id
"""
