"""Old lines of the audit log may go; nobody can change one, or remove a younger one."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

KEPT_MS = 90 * 86_400_000


def upgrade() -> None:
    op.execute("DROP TRIGGER audit_append_only ON audit")
    op.execute(
        "CREATE TRIGGER audit_no_change BEFORE UPDATE ON audit"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "CREATE TRIGGER audit_kept BEFORE DELETE ON audit FOR EACH ROW"
        f" WHEN (OLD.at_ms > extract(epoch FROM clock_timestamp()) * 1000 - {KEPT_MS})"
        " EXECUTE FUNCTION refuse_change()"
    )
    op.execute(
        "COMMENT ON COLUMN personal.subject IS"
        " 'order/<id> or rider/<id>; installation/digests, the key of digests'"
    )


def downgrade() -> None:
    op.execute("COMMENT ON COLUMN personal.subject IS 'order/<id> or rider/<id>'")
    op.execute("DROP TRIGGER audit_kept ON audit")
    op.execute("DROP TRIGGER audit_no_change ON audit")
    op.execute(
        "CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE ON audit"
        " FOR EACH ROW EXECUTE FUNCTION refuse_change()"
    )
