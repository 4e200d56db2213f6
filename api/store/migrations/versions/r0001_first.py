"""The first tables: orders, riders, their events, the feed, leases and what makes a retry safe."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE installation (id text PRIMARY KEY);
COMMENT ON COLUMN installation.id IS 'names this database in the streams fed from it';
INSERT INTO installation (id) VALUES (gen_random_uuid()::text);

CREATE TABLE orders (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    city text NOT NULL,
    state text NOT NULL,
    version integer NOT NULL,
    job_type text NOT NULL,
    customer_id text NOT NULL,
    merchant_id text NOT NULL,
    rider_id text,
    price_fen bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    promise_to_ms bigint NOT NULL,
    body jsonb NOT NULL,
    CONSTRAINT orders_state CHECK (state IN (
        'quoted', 'scheduled', 'open', 'assigned', 'under_way', 'done', 'completed',
        'cancelled_customer', 'cancelled_merchant', 'cancelled_system', 'expired', 'returned',
        'failed')),
    CONSTRAINT orders_price CHECK (price_fen >= 0),
    CONSTRAINT orders_version CHECK (version >= 1)
);
COMMENT ON COLUMN orders.rider_id IS 'of the live assignment';
COMMENT ON COLUMN orders.body IS 'the whole Order';
CREATE INDEX orders_live_by_city ON orders (city)
    WHERE state IN ('quoted', 'scheduled', 'open', 'assigned', 'under_way', 'done');
CREATE INDEX orders_live_by_rider ON orders (rider_id) WHERE rider_id IS NOT NULL;
CREATE INDEX orders_live_by_customer ON orders (tenant, customer_id)
    WHERE state IN ('quoted', 'scheduled', 'open', 'assigned', 'under_way', 'done');
CREATE INDEX orders_by_city_and_day ON orders (city, created_at_ms) INCLUDE (state);

CREATE TABLE assignments (
    order_id text NOT NULL REFERENCES orders (id),
    number integer NOT NULL,
    rider_id text NOT NULL,
    state text NOT NULL,
    offered_at_ms bigint NOT NULL,
    deadline_ms bigint NOT NULL,
    route jsonb NOT NULL,
    PRIMARY KEY (order_id, number),
    CONSTRAINT assignments_state CHECK (state IN (
        'offered', 'accepted', 'active', 'finished', 'declined', 'timed_out', 'withdrawn',
        'dropped')),
    CONSTRAINT assignments_number CHECK (number >= 1)
);
CREATE UNIQUE INDEX assignments_one_live ON assignments (order_id)
    WHERE state IN ('offered', 'accepted', 'active');

CREATE TABLE riders (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    city text NOT NULL,
    state text NOT NULL,
    version integer NOT NULL,
    body jsonb NOT NULL,
    CONSTRAINT riders_state CHECK (state IN ('off', 'on'))
);
COMMENT ON COLUMN riders.body IS 'the whole Rider';
CREATE INDEX riders_on_shift_by_city ON riders (city) WHERE state = 'on';

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject_kind text NOT NULL,
    subject_id text NOT NULL,
    seq integer NOT NULL,
    tenant text NOT NULL,
    city text NOT NULL,
    at_ms bigint NOT NULL,
    kind text NOT NULL,
    body jsonb NOT NULL,
    CONSTRAINT events_subject_kind CHECK (subject_kind IN ('order', 'rider')),
    CONSTRAINT events_seq CHECK (seq >= 1),
    CONSTRAINT events_once UNIQUE (subject_kind, subject_id, seq)
);
COMMENT ON COLUMN events.body IS 'the fact';

CREATE TABLE outbox (event_id bigint PRIMARY KEY);
-- Every row lives for milliseconds: clean up by count, not by share.
ALTER TABLE outbox SET (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
    autovacuum_vacuum_insert_scale_factor = 0);

CREATE TABLE feed (
    position bigint PRIMARY KEY,
    prev_position bigint NOT NULL,
    city text NOT NULL,
    tenant text NOT NULL,
    event_id bigint NOT NULL,
    CONSTRAINT feed_prev CHECK (prev_position < position),
    CONSTRAINT feed_once UNIQUE (event_id)
);
CREATE INDEX feed_by_city ON feed (city, position);
CREATE INDEX feed_by_tenant ON feed (tenant, city, position);

CREATE TABLE heads (city text PRIMARY KEY, position bigint NOT NULL);
COMMENT ON COLUMN heads.position IS 'the last one of the city in `feed`';

CREATE TABLE idempotency (
    client_id text NOT NULL,
    key text NOT NULL,
    body_hash text NOT NULL,
    status smallint NOT NULL,
    answer jsonb NOT NULL,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (client_id, key)
);
COMMENT ON COLUMN idempotency.answer IS 'the Order as it was answered';
CREATE INDEX idempotency_by_age ON idempotency (created_at_ms);

CREATE TABLE actions (
    order_id text NOT NULL,
    actor text NOT NULL,
    action_id text NOT NULL,
    digest text NOT NULL,
    version integer NOT NULL,
    events integer NOT NULL,
    refusal jsonb,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (order_id, actor, action_id)
);
COMMENT ON COLUMN actions.digest IS 'of the command';
COMMENT ON COLUMN actions.version IS 'of the order after the command';
COMMENT ON COLUMN actions.events IS 'how many the command made';
CREATE INDEX actions_by_age ON actions (created_at_ms);

CREATE TABLE leases (
    city text PRIMARY KEY,
    epoch bigint NOT NULL,
    owner text NOT NULL,
    expires_at_ms bigint NOT NULL
);

CREATE TABLE receipts (
    order_id text NOT NULL REFERENCES orders (id),
    number integer NOT NULL,
    round_at_ms bigint NOT NULL,
    body jsonb NOT NULL,
    PRIMARY KEY (order_id, number)
);
"""

APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
            USING ERRCODE = 'restrict_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)


def upgrade() -> None:
    for statement in (*TABLES.split(";\n"), *APPEND_ONLY):
        if statement.strip():
            op.execute(statement)
