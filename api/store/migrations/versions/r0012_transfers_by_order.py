"""An order's transfers are found by its id whatever their kind is.

The checks of money ask for a kind that the planner does not know beforehand: an index of one kind
does not serve them, and they read the whole ledger at each order.
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE INDEX transfers_by_order ON transfers (order_id)")
    op.execute("DROP INDEX transfers_paid")


def downgrade() -> None:
    op.execute("CREATE INDEX transfers_paid ON transfers (order_id) WHERE kind = 'payment'")
    op.execute("DROP INDEX transfers_by_order")
