"""The database enforces when money moves: held with the order, and settled exactly by its end.

Only what is written from now on is looked at. An order of before whose price was never held cannot
be settled, as before.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

RELEASED = """
    'cancelled_customer', 'cancelled_merchant', 'cancelled_system', 'expired', 'returned', 'failed'
"""

# The end states have no way out, so what is true of a settled order stays true. The checks of an
# order wait for the commit: the row and its transfers may be two statements.
WHEN = (
    f"""
    CREATE OR REPLACE FUNCTION check_end() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM FROM transfers h JOIN orders o ON o.id = h.order_id
            WHERE h.order_id = NEW.order_id AND h.kind = 'hold'
            AND h.fen = NEW.fen AND h.credit = NEW.debit
            AND CASE NEW.kind WHEN 'capture' THEN o.state = 'completed'
                ELSE h.debit = NEW.credit AND o.state IN ({RELEASED}) END;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'order %: a % is of what was held, to the fen, and at its own end',
                NEW.order_id, NEW.kind USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION check_order_money() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM FROM transfers WHERE order_id = NEW.id AND kind = TG_ARGV[0];
        IF NOT FOUND THEN
            RAISE EXCEPTION 'order %: % without its %', NEW.id, NEW.state, TG_ARGV[0]
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE CONSTRAINT TRIGGER orders_hold AFTER INSERT ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (NEW.price_fen > 0) EXECUTE FUNCTION check_order_money('hold')
    """,
    """
    CREATE CONSTRAINT TRIGGER orders_capture AFTER UPDATE ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (NEW.price_fen > 0 AND OLD.state <> NEW.state AND NEW.state = 'completed')
        EXECUTE FUNCTION check_order_money('capture')
    """,
    f"""
    CREATE CONSTRAINT TRIGGER orders_release AFTER UPDATE ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (NEW.price_fen > 0 AND OLD.state <> NEW.state AND NEW.state IN ({RELEASED}))
        EXECUTE FUNCTION check_order_money('release')
    """,
)


def upgrade() -> None:
    for statement in WHEN:
        op.execute(statement)
