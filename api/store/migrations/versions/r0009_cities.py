"""Which cities each running dispatcher serves, so that they share a city among those only."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE members ADD COLUMN cities text[]")
    op.execute("COMMENT ON COLUMN members.cities IS 'that it serves; null for all'")


def downgrade() -> None:
    op.execute("ALTER TABLE members DROP COLUMN cities")
