"""API keys, revocations, and the audit log that nobody can change."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE keys (
    id text PRIMARY KEY,
    tenant text NOT NULL,
    city text NOT NULL,
    role text NOT NULL,
    sub text NOT NULL,
    label text NOT NULL,
    digest text NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    last_used_ms bigint
);
COMMENT ON COLUMN keys.sub IS 'whose it is, the id in the role';
COMMENT ON COLUMN keys.digest IS 'SHA-256 of the key''s secret';
COMMENT ON COLUMN keys.last_used_ms IS 'to the hour';
CREATE INDEX keys_by_tenant ON keys (tenant, city);

CREATE TABLE revocations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    city text NOT NULL,
    kind text NOT NULL,
    value text NOT NULL,
    at_ms bigint NOT NULL,
    until_ms bigint NOT NULL,
    CONSTRAINT revocations_kind CHECK (kind IN ('token', 'subject', 'key'))
);
COMMENT ON COLUMN revocations.value IS 'a jti, a role/sub, or the id of a key';
COMMENT ON COLUMN revocations.at_ms IS 'tokens made until then are over';
COMMENT ON COLUMN revocations.until_ms IS 'by then they all are, by themselves';

CREATE TABLE audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    tenant text NOT NULL,
    city text NOT NULL,
    role text NOT NULL,
    sub text NOT NULL,
    key_id text NOT NULL,
    action text NOT NULL,
    object text NOT NULL,
    address text NOT NULL,
    outcome smallint NOT NULL
);
COMMENT ON COLUMN audit.key_id IS 'empty without an API key';
COMMENT ON COLUMN audit.address IS 'from where';
COMMENT ON COLUMN audit.outcome IS 'the HTTP status';
CREATE INDEX audit_by_tenant ON audit (tenant, city, id);

CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
"""


def upgrade() -> None:
    for statement in TABLES.split(";\n"):
        if statement.strip():
            op.execute(statement)
