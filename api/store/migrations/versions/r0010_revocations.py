"""One row a revocation, so that a second one of the same only moves it; and who may end whose."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_UPGRADE = (
    """DELETE FROM revocations WHERE id NOT IN (
    SELECT DISTINCT ON (tenant, city, kind, value) id FROM revocations
    ORDER BY tenant, city, kind, value, at_ms DESC, until_ms DESC, id DESC
)""",
    """ALTER TABLE revocations
    ADD CONSTRAINT revocations_once UNIQUE (tenant, city, kind, value),
    DROP CONSTRAINT revocations_kind,
    ADD CONSTRAINT revocations_kind
        CHECK (kind IN ('token', 'lower_token', 'subject', 'key'))""",
    "CREATE INDEX revocations_by_end ON revocations (until_ms)",
)

# Without the fourth kind what it refused would be good again: it refuses more instead.
_DOWNGRADE = (
    "DROP INDEX revocations_by_end",
    """ALTER TABLE revocations
    DROP CONSTRAINT revocations_once,
    DROP CONSTRAINT revocations_kind""",
    "UPDATE revocations SET kind = 'token' WHERE kind = 'lower_token'",
    """ALTER TABLE revocations
    ADD CONSTRAINT revocations_kind CHECK (kind IN ('token', 'subject', 'key'))""",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
