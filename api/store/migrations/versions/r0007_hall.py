"""An index for the orders that wait in the hall, which riders ask for again and again."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "CREATE INDEX orders_in_hall ON orders (city, tenant, created_at_ms)"
        " WHERE state = 'open' AND rider_id IS NULL AND body ->> 'matching' = 'hall'"
    )


def downgrade() -> None:
    op.execute("DROP INDEX orders_in_hall")
