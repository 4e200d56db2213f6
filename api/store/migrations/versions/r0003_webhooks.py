"""Outgoing webhooks: endpoints with their cursors, orders that are behind, dead letters."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE webhook_endpoints (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    city text NOT NULL,
    url text NOT NULL,
    description text NOT NULL,
    kinds text[],
    coordinate_system text NOT NULL,
    state text NOT NULL,
    paused_reason text,
    cursor bigint NOT NULL,
    listed_after bigint NOT NULL,
    failing_since_ms bigint,
    key_id text NOT NULL,
    secret text NOT NULL,
    old_key_id text,
    old_secret text,
    old_until_ms bigint,
    epoch bigint NOT NULL,
    lease_until_ms bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    CONSTRAINT webhook_endpoints_state CHECK (state IN ('active', 'paused')),
    CONSTRAINT webhook_endpoints_cursor CHECK (cursor >= 0)
);
COMMENT ON COLUMN webhook_endpoints.kinds IS 'of events; null for all';
COMMENT ON COLUMN webhook_endpoints.cursor IS 'settled so far, but for webhook_behind';
COMMENT ON COLUMN webhook_endpoints.listed_after IS 'deliveries are known from here';
COMMENT ON COLUMN webhook_endpoints.failing_since_ms IS 'every attempt since then has failed';
COMMENT ON COLUMN webhook_endpoints.old_secret IS 'signs as well until old_until_ms';
COMMENT ON COLUMN webhook_endpoints.epoch IS 'of the sender that has the lease';
COMMENT ON COLUMN webhook_endpoints.lease_until_ms IS 'by the clock of the database';
CREATE INDEX webhook_endpoints_by_tenant ON webhook_endpoints (tenant, city);

CREATE TABLE webhook_behind (
    endpoint_id text NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    subject text NOT NULL,
    subject_id text NOT NULL,
    position bigint NOT NULL,
    attempts integer NOT NULL,
    tried_since_ms bigint,
    next_at_ms bigint NOT NULL,
    last_error text NOT NULL,
    PRIMARY KEY (endpoint_id, subject, subject_id)
);
COMMENT ON COLUMN webhook_behind.subject IS 'order or rider';
COMMENT ON COLUMN webhook_behind.position IS 'his first event not yet delivered';
COMMENT ON COLUMN webhook_behind.attempts IS 'at that event';
COMMENT ON COLUMN webhook_behind.tried_since_ms IS 'the first of these attempts';

CREATE TABLE webhook_dead_letters (
    endpoint_id text NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    position bigint NOT NULL,
    event_id bigint NOT NULL,
    subject text NOT NULL,
    subject_id text NOT NULL,
    seq integer NOT NULL,
    kind text NOT NULL,
    attempts integer NOT NULL,
    dead_at_ms bigint NOT NULL,
    last_error text NOT NULL,
    retry_asked boolean NOT NULL,
    PRIMARY KEY (endpoint_id, position)
);
CREATE INDEX webhook_dead_letters_asked ON webhook_dead_letters (endpoint_id, position)
    WHERE retry_asked;
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
