"""The running dispatchers, by heartbeat."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE TABLE members (name text PRIMARY KEY, expires_at_ms bigint NOT NULL)")
    op.execute("COMMENT ON COLUMN members.expires_at_ms IS 'by the clock of this server'")


def downgrade() -> None:
    op.execute("DROP TABLE members")
