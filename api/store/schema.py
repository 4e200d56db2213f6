"""The tables as SQLAlchemy sees them; imports SQLAlchemy and the engine's states.

State rows (`orders`, `riders`) hold the whole value as JSON beside the columns that are searched
by. The migrations make these tables; a test compares the two. `outbox` and `feed` point to `events`
without a foreign key: an event is never deleted alone, and the check would lock every event once
more. What the database refuses beyond constraints (moves, histories, money) stands in triggers, in
the migrations. The partitions of `events`, `feed` and `receipts` lie in the schema `parts`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from dispatch.lifecycle import ASSIGNMENT, ORDER
from dispatch.model import AssignmentState, Matching, OrderState, RiderState

LIVE_ORDER = tuple(s.value for s in OrderState if not ORDER.ended(s))
LIVE_ASSIGNMENT = tuple(s.value for s in AssignmentState if not ASSIGNMENT.ended(s))

metadata = MetaData()


def among(column: str, values: tuple[str, ...]) -> str:
    """SQL: the column holds one of the values."""
    return f"{column} IN ({', '.join(repr(v) for v in values)})"


IN_HALL = text(
    f"orders.state = '{OrderState.OPEN.value}' AND orders.rider_id IS NULL"
    f" AND orders.body ->> 'matching' = '{Matching.HALL.value}'"
)
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
    Index(
        "orders_in_hall",
        "city",
        "tenant",
        "created_at_ms",
        postgresql_where=text(IN_HALL.text.replace("orders.", "")),
    ),
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
    Column(
        "day",
        Integer,
        nullable=False,
        server_default=text("0"),
        comment="of his last event, since 1970",
    ),
    CheckConstraint(among("state", tuple(RiderState)), name="riders_state"),
    Index(
        "riders_on_shift_by_city", "city", postgresql_where=text(f"state = '{RiderState.ON.value}'")
    ),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column(
        "day",
        Integer,
        nullable=False,
        comment="since 1970: of the order's creation, or of the rider's event",
    ),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("body", JSONB, nullable=False, comment="the fact"),
    CheckConstraint("subject_kind IN ('order', 'rider')", name="events_subject_kind"),
    CheckConstraint("seq >= 1", name="events_seq"),
    PrimaryKeyConstraint("subject_kind", "subject_id", "seq", "day", name="events_once"),
    Index("events_by_id", "id"),
    postgresql_partition_by="RANGE (day)",
)

outbox = Table(
    "outbox",
    metadata,
    Column("event_id", BigInteger, primary_key=True, autoincrement=False),
    Column("day", Integer, nullable=False, comment="of the event"),
)

feed = Table(
    "feed",
    metadata,
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("prev_position", BigInteger, nullable=False),
    Column("city", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("event_id", BigInteger, nullable=False),
    Column("day", Integer, nullable=False, comment="of the event"),
    CheckConstraint("prev_position < position", name="feed_prev"),
    Index("feed_by_city", "city", "position"),
    Index("feed_by_tenant", "tenant", "city", "position"),
    postgresql_partition_by="RANGE (position)",
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
    Column("answer", JSONB, comment="null while the change is being made"),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("idempotency_by_age", "created_at_ms", postgresql_using="brin"),
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
    Index("actions_by_age", "created_at_ms", postgresql_using="brin"),
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
    Column("cities", ARRAY(Text), comment="that it serves; null for all"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("order_id", Text, ForeignKey("orders.id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("round_at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("body", JSONB, nullable=False),
    postgresql_partition_by="RANGE (round_at_ms)",
)

transfers = Table(
    "transfers",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("order_id", Text),
    Column("kind", Text, nullable=False),
    Column("debit", Text, nullable=False),
    Column("credit", Text, nullable=False),
    Column("fen", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    CheckConstraint("fen > 0", name="transfers_fen"),
    CheckConstraint(
        "CASE kind"
        " WHEN 'hold' THEN debit LIKE 'customer/%' AND credit LIKE 'escrow/%'"
        " WHEN 'capture' THEN debit LIKE 'escrow/%' AND credit LIKE 'sales/%'"
        " WHEN 'release' THEN debit LIKE 'escrow/%' AND credit LIKE 'customer/%'"
        " WHEN 'payment' THEN debit LIKE 'gateway/%' AND credit LIKE 'customer/%'"
        " ELSE false END",
        name="transfers_accounts",
    ),
    CheckConstraint("order_id IS NOT NULL OR kind = 'payment'", name="transfers_order"),
    Index("transfers_one_hold", "order_id", unique=True, postgresql_where=text("kind = 'hold'")),
    Index(
        "transfers_one_end",
        "order_id",
        unique=True,
        postgresql_where=text("kind IN ('capture', 'release')"),
    ),
    Index("transfers_by_order", "order_id"),
    Index("transfers_by_debit", "debit"),
    Index("transfers_by_credit", "credit"),
)

payment_notices = Table(
    "payment_notices",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("notice_id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("fen", BigInteger, nullable=False),
    Column("order_id", Text),
    Column("transfer_id", BigInteger, nullable=False, comment="of the payment it made"),
    Column("at_ms", BigInteger, nullable=False),
)

personal = Table(
    "personal",
    metadata,
    Column(
        "subject",
        Text,
        primary_key=True,
        comment="order/<id> or rider/<id>; installation/digests, the key of digests",
    ),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("owner", Text, nullable=False, comment="whom it is about: customer/<id> or rider/<id>"),
    Column("key_id", Text, nullable=False),
    Column("nonce", LargeBinary, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("erase_at_ms", BigInteger, comment="not before its order or rider has ended"),
    Index("personal_by_owner", "tenant", "owner"),
    Index("personal_by_key", "key_id"),
    Index("personal_kept", "subject", postgresql_where=text("erase_at_ms IS NULL")),
    Index("personal_to_erase", "erase_at_ms", postgresql_where=text("erase_at_ms IS NOT NULL")),
)

unsealed = Table(
    "unsealed",
    metadata,
    Column(
        "order_id", Text, primary_key=True, comment="its body still holds addresses in the clear"
    ),
)

masked_numbers = Table(
    "masked_numbers",
    metadata,
    Column("number", Text, primary_key=True),
    Column("order_id", Text, nullable=False),
    Column("party", Text, nullable=False, comment="whom it reaches: rider or stop:<n>"),
    Column("bound_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger, nullable=False),
    Column("released_at_ms", BigInteger),
    Index(
        "masked_numbers_live",
        "order_id",
        "party",
        unique=True,
        postgresql_where=text("released_at_ms IS NULL"),
    ),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("sub", Text, nullable=False, comment="whose it is, the id in the role"),
    Column("label", Text, nullable=False),
    Column("digest", Text, nullable=False, comment="SHA-256 of the key's secret"),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("last_used_ms", BigInteger, comment="to the hour"),
    Index("keys_by_tenant", "tenant", "city"),
)

revocations = Table(
    "revocations",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("value", Text, nullable=False, comment="a jti, a role/sub, or the id of a key"),
    Column("at_ms", BigInteger, nullable=False, comment="tokens made until then are over"),
    Column("until_ms", BigInteger, nullable=False, comment="by then they all are, by themselves"),
    CheckConstraint("kind IN ('token', 'lower_token', 'subject', 'key')", name="revocations_kind"),
    UniqueConstraint("tenant", "city", "kind", "value", name="revocations_once"),
    Index("revocations_by_end", "until_ms"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("sub", Text, nullable=False),
    Column("key_id", Text, nullable=False, comment="empty without an API key"),
    Column("action", Text, nullable=False),
    Column("object", Text, nullable=False),
    Column("address", Text, nullable=False, comment="from where"),
    Column("outcome", SmallInteger, nullable=False, comment="the HTTP status"),
    Index("audit_by_tenant", "tenant", "city", "id"),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("city", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("kinds", ARRAY(Text), comment="of events; null for all"),
    Column("coordinate_system", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("paused_reason", Text),
    Column("cursor", BigInteger, nullable=False, comment="settled so far, but for webhook_behind"),
    Column("listed_after", BigInteger, nullable=False, comment="deliveries are known from here"),
    Column("failing_since_ms", BigInteger, comment="every attempt since then has failed"),
    Column("key_id", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("old_key_id", Text),
    Column("old_secret", Text, comment="signs as well until old_until_ms"),
    Column("old_until_ms", BigInteger),
    Column("epoch", BigInteger, nullable=False, comment="of the sender that has the lease"),
    Column("lease_until_ms", BigInteger, nullable=False, comment="by the clock of the database"),
    Column("created_at_ms", BigInteger, nullable=False),
    CheckConstraint("state IN ('active', 'paused')", name="webhook_endpoints_state"),
    CheckConstraint("cursor >= 0", name="webhook_endpoints_cursor"),
    Index("webhook_endpoints_by_tenant", "tenant", "city"),
)

webhook_behind = Table(
    "webhook_behind",
    metadata,
    Column(
        "endpoint_id",
        Text,
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("subject", Text, primary_key=True, comment="order or rider"),
    Column("subject_id", Text, primary_key=True),
    Column("position", BigInteger, nullable=False, comment="his first event not yet delivered"),
    Column("attempts", Integer, nullable=False, comment="at that event"),
    Column("tried_since_ms", BigInteger, comment="the first of these attempts"),
    Column("next_at_ms", BigInteger, nullable=False),
    Column("last_error", Text, nullable=False),
)

webhook_dead_letters = Table(
    "webhook_dead_letters",
    metadata,
    Column(
        "endpoint_id",
        Text,
        ForeignKey("webhook_endpoints.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("position", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", BigInteger, nullable=False),
    Column("subject", Text, nullable=False),
    Column("subject_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("dead_at_ms", BigInteger, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("retry_asked", Boolean, nullable=False),
    Index(
        "webhook_dead_letters_asked",
        "endpoint_id",
        "position",
        postgresql_where=text("retry_asked"),
    ),
)
