"""The tables as SQLAlchemy sees them; imports SQLAlchemy and the engine's states.

State rows (`orders`, `riders`) hold the whole value as JSON beside the columns that are searched
by. The migrations make these tables; a test compares the two. `outbox` and `feed` point to `events`
without a foreign key: an event is never deleted, and the check would lock every event once more.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from dispatch.lifecycle import ASSIGNMENT, ORDER
from dispatch.model import AssignmentState, OrderState, RiderState

LIVE_ORDER = tuple(s.value for s in OrderState if not ORDER.ended(s))
LIVE_ASSIGNMENT = tuple(s.value for s in AssignmentState if not ASSIGNMENT.ended(s))

metadata = MetaData()


def among(column: str, values: tuple[str, ...]) -> str:
    """SQL: the column holds one of the values."""
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


_order_is_live = text(among("state", LIVE_ORDER))

installation = Table(
    "installation",
    metadata,
    Column("id", Text, primary_key=True, comment="names this database in the streams fed from it"),
)

orders = Table(
    "orders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("job_type", Text, nullable=False),
    Column("customer_id", Text, nullable=False),
    Column("merchant_id", Text, nullable=False),
    Column("rider_id", Text, comment="of the live assignment"),
    Column("price_fen", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("promise_to_ms", BigInteger, nullable=False),
    Column("body", JSONB, nullable=False, comment="the whole Order"),
    CheckConstraint(among("state", tuple(OrderState)), name="orders_state"),
    CheckConstraint("price_fen >= 0", name="orders_price"),
    CheckConstraint("version >= 1", name="orders_version"),
    Index("orders_live_by_city", "city", postgresql_where=_order_is_live),
    Index("orders_live_by_rider", "rider_id", postgresql_where=text("rider_id IS NOT NULL")),
    Index("orders_live_by_customer", "tenant", "customer_id", postgresql_where=_order_is_live),
    Index("orders_by_city_and_day", "city", "created_at_ms", postgresql_include=["state"]),
)

assignments = Table(
    "assignments",
    metadata,
    Column("order_id", Text, ForeignKey("orders.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("rider_id", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("offered_at_ms", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("route", JSONB, nullable=False),
    CheckConstraint(among("state", tuple(AssignmentState)), name="assignments_state"),
    CheckConstraint("number >= 1", name="assignments_number"),
    Index(
        "assignments_one_live",
        "order_id",
        unique=True,
        postgresql_where=text(among("state", LIVE_ASSIGNMENT)),
    ),
)

riders = Table(
    "riders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", JSONB, nullable=False, comment="the whole Rider"),
    CheckConstraint(among("state", tuple(RiderState)), name="riders_state"),
    Index(
        "riders_on_shift_by_city", "city", postgresql_where=text(f"state = '{RiderState.ON.value}'")
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("subject_kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSONB, nullable=False, comment="the fact"),
    CheckConstraint("subject_kind IN ('order', 'rider')", name="events_subject_kind"),
    CheckConstraint("seq >= 1", name="events_seq"),
    UniqueConstraint("subject_kind", "subject_id", "seq", name="events_once"),
)

outbox = Table(
    "outbox",
    metadata,
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
)

feed = Table(
    "feed",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("prev_position", BigInteger, nullable=False),
    Column("city", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("event_id", BigInteger, nullable=False),
    CheckConstraint("prev_position < position", name="feed_prev"),
    UniqueConstraint("event_id", name="feed_once"),
    Index("feed_by_city", "city", "position"),
    Index("feed_by_tenant", "tenant", "city", "position"),
)

heads = Table(
    "heads",
    metadata,
    Column("city", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, comment="the last one of the city in `feed`"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("client_id", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("body_hash", Text, nullable=False),
    Column("status", SmallInteger, nullable=False),
    Column("answer", JSONB, nullable=False, comment="the Order as it was answered"),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("idempotency_by_age", "created_at_ms"),
)

actions = Table(
    "actions",
    metadata,
    Column("order_id", Text, primary_key=True),
    Column("actor", Text, primary_key=True),
    Column("action_id", Text, primary_key=True),
    Column("digest", Text, nullable=False, comment="of the command"),
    Column("version", Integer, nullable=False, comment="of the order after the command"),
    Column("events", Integer, nullable=False, comment="how many the command made"),
    Column("refusal", JSONB(none_as_null=True)),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("actions_by_age", "created_at_ms"),
)

leases = Table(
    "leases",
    metadata,
    Column("city", Text, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("owner", Text, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
)

members = Table(
    "members",
    metadata,
    Column("name", Text, primary_key=True),
    Column("expires_at_ms", BigInteger, nullable=False, comment="by the clock of this server"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("order_id", Text, ForeignKey("orders.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("round_at_ms", BigInteger, nullable=False),
    Column("body", JSONB, nullable=False),
)
