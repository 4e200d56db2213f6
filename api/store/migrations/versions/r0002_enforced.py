"""The database enforces moves, histories and money; events, feed and receipts lie in partitions.

`events` is cut by `day`: the day (UTC, since 1970) of an order's creation, so that one index keeps
its events unique; of a rider's event the day it happened, which his row remembers. `feed` is cut by
position, `receipts` by the time of their round. What fits no partition lies in the rest, so that no
write can fail for a missing one.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

DAY_MS = 86_400_000
FEED_STEP = 1_000_000
DAYS_AHEAD = 7

# "from>to". Written out: a migration does not change when the tables of the engine do.
ORDER_MOVES = """
    quoted>scheduled quoted>open scheduled>open open>assigned open>expired assigned>under_way
    assigned>open under_way>open under_way>done under_way>returned under_way>failed done>completed
    scheduled>cancelled_customer scheduled>cancelled_merchant scheduled>cancelled_system
    open>cancelled_customer open>cancelled_merchant open>cancelled_system
    assigned>cancelled_customer assigned>cancelled_merchant assigned>cancelled_system
    under_way>cancelled_customer under_way>cancelled_merchant under_way>cancelled_system
"""
ASSIGNMENT_MOVES = """
    offered>accepted offered>declined offered>timed_out offered>withdrawn accepted>active
    accepted>withdrawn accepted>dropped active>finished active>withdrawn active>dropped
"""


def among(moves: str) -> str:
    return ", ".join(f"'{move}'" for move in moves.split())


# --- partitions --------------------------------------------------------------------------------

PARTS = (
    "CREATE SCHEMA parts",
    "COMMENT ON SCHEMA parts IS 'the partitions of events, feed and receipts'",
    """
    CREATE FUNCTION make_partition(parent text, key text, lower bigint, upper bigint)
    RETURNS boolean LANGUAGE plpgsql AS $$
    DECLARE
        name text := parent || '_' || lower;
        taken boolean;
    BEGIN
        IF to_regclass(format('parts.%I', name)) IS NOT NULL THEN
            RETURN false;
        END IF;
        EXECUTE format('SELECT EXISTS (SELECT FROM parts.%I WHERE %I >= $1 AND %I < $2)',
                       parent || '_rest', key, key) INTO taken USING lower, upper;
        IF taken THEN  -- they came before it was made, and stay where they are
            RETURN false;
        END IF;
        EXECUTE format('CREATE TABLE parts.%I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)',
                       name, parent, lower, upper);
        PERFORM guard_partition(name);
        RETURN true;
    END
    $$
    """,
    """
    CREATE FUNCTION make_rest(parent text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TABLE parts.%I PARTITION OF %I DEFAULT', parent || '_rest', parent);
        PERFORM guard_partition(parent || '_rest');
    END
    $$
    """,
    # A statement that names the partition would pass by the triggers of its parent.
    """
    CREATE FUNCTION guard_partition(name text) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        EXECUTE format('CREATE TRIGGER by_the_parent_only BEFORE INSERT OR TRUNCATE ON parts.%I'
                       ' FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', name);
    END
    $$
    """,
)

EVENTS = """
CREATE SCHEMA old;
ALTER TABLE events SET SCHEMA old;
ALTER TABLE feed SET SCHEMA old;
ALTER TABLE receipts SET SCHEMA old;

CREATE TABLE events (
    id bigint GENERATED ALWAYS AS IDENTITY,
    subject_kind text NOT NULL,
    subject_id text NOT NULL,
    seq integer NOT NULL,
    day integer NOT NULL,
    tenant text NOT NULL,
    city text NOT NULL,
    at_ms bigint NOT NULL,
    kind text NOT NULL,
    body jsonb NOT NULL,
    CONSTRAINT events_subject_kind CHECK (subject_kind IN ('order', 'rider')),
    CONSTRAINT events_seq CHECK (seq >= 1),
    CONSTRAINT events_once PRIMARY KEY (subject_kind, subject_id, seq, day)
) PARTITION BY RANGE (day);
COMMENT ON COLUMN events.day IS 'since 1970: of the order''s creation, or of the rider''s event';
COMMENT ON COLUMN events.body IS 'the fact';
CREATE INDEX events_by_id ON events (id);

CREATE TABLE feed (
    position bigint PRIMARY KEY,
    prev_position bigint NOT NULL,
    city text NOT NULL,
    tenant text NOT NULL,
    event_id bigint NOT NULL,
    day integer NOT NULL,
    CONSTRAINT feed_prev CHECK (prev_position < position)
) PARTITION BY RANGE (position);
COMMENT ON COLUMN feed.day IS 'of the event';

CREATE TABLE receipts (
    order_id text NOT NULL REFERENCES orders (id),
    number integer NOT NULL,
    round_at_ms bigint NOT NULL,
    body jsonb NOT NULL,
    PRIMARY KEY (order_id, number, round_at_ms)
) PARTITION BY RANGE (round_at_ms);

SELECT make_rest('events'), make_rest('feed'), make_rest('receipts');
ALTER TABLE outbox ADD COLUMN day integer;
ALTER TABLE riders ADD COLUMN day integer NOT NULL DEFAULT 0;
COMMENT ON COLUMN riders.day IS 'of his last event, since 1970';
COMMENT ON COLUMN outbox.day IS 'of the event';
"""

# The days that the events of 0001 belong to; a wrong clock's are left to the rest.
TODAY = f"(extract(epoch FROM now()) * 1000)::bigint / {DAY_MS}"
MOVE = f"""
CREATE TABLE old.days AS
    SELECT e.id, (coalesce(o.created_at_ms, e.at_ms) / {DAY_MS})::integer AS day
    FROM old.events e LEFT JOIN orders o ON e.subject_kind = 'order' AND o.id = e.subject_id;
ALTER TABLE old.days ADD PRIMARY KEY (id);
ANALYZE old.days;
SELECT make_partition('events', 'day', day, day + 1) FROM (
    SELECT DISTINCT day FROM old.days
    UNION SELECT generate_series({TODAY}, {TODAY} + {DAYS_AHEAD})) d;
INSERT INTO events (id, subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)
    OVERRIDING SYSTEM VALUE
    SELECT e.id, subject_kind, subject_id, seq, d.day, tenant, city, at_ms, kind, body
    FROM old.events e JOIN old.days d ON d.id = e.id;
SELECT setval(pg_get_serial_sequence('events', 'id'), greatest(1, max(id)), max(id) IS NOT NULL)
    FROM old.events;
UPDATE riders r SET day = d.day
    FROM old.events e JOIN old.days d ON d.id = e.id
    WHERE e.subject_kind = 'rider' AND e.subject_id = r.id AND e.seq = r.version;
UPDATE outbox o SET day = d.day FROM old.days d WHERE d.id = o.event_id;
ALTER TABLE outbox ALTER COLUMN day SET NOT NULL;
SELECT make_partition('feed', 'position', n * {FEED_STEP}, (n + 1) * {FEED_STEP})
    FROM generate_series((SELECT coalesce(min(position), 0) / {FEED_STEP} FROM old.feed),
                         (SELECT coalesce(max(position), 0) / {FEED_STEP} + 1 FROM old.feed)) n;
INSERT INTO feed
    SELECT f.position, f.prev_position, f.city, f.tenant, f.event_id, d.day
    FROM old.feed f JOIN old.days d ON d.id = f.event_id;
SELECT make_partition('receipts', 'round_at_ms', d * {DAY_MS}, (d + 1) * {DAY_MS}) FROM (
    SELECT DISTINCT round_at_ms / {DAY_MS} AS d FROM old.receipts
    UNION SELECT generate_series({TODAY}, {TODAY} + {DAYS_AHEAD})) r;
INSERT INTO receipts SELECT * FROM old.receipts;
DROP SCHEMA old CASCADE;
CREATE INDEX feed_by_city ON feed (city, position);
CREATE INDEX feed_by_tenant ON feed (tenant, city, position);
ALTER TABLE orders SET (fillfactor = 70);
ALTER TABLE riders SET (fillfactor = 70);
DROP INDEX idempotency_by_age;
DROP INDEX actions_by_age;
CREATE INDEX idempotency_by_age ON idempotency USING brin (created_at_ms);
CREATE INDEX actions_by_age ON actions USING brin (created_at_ms);
ALTER TABLE idempotency ALTER COLUMN answer DROP NOT NULL;
COMMENT ON COLUMN idempotency.answer IS 'null while the change is being made';
"""

# --- money -------------------------------------------------------------------------------------

MONEY = f"""
CREATE TABLE transfers (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id text,
    kind text NOT NULL,
    debit text NOT NULL,
    credit text NOT NULL,
    fen bigint NOT NULL,
    at_ms bigint NOT NULL,
    CONSTRAINT transfers_fen CHECK (fen > 0),
    CONSTRAINT transfers_accounts CHECK (
        CASE kind
        WHEN 'hold' THEN debit LIKE 'customer/%' AND credit LIKE 'escrow/%'
        WHEN 'capture' THEN debit LIKE 'escrow/%' AND credit LIKE 'sales/%'
        WHEN 'release' THEN debit LIKE 'escrow/%' AND credit LIKE 'customer/%'
        WHEN 'payment' THEN debit LIKE 'gateway/%' AND credit LIKE 'customer/%'
        ELSE false END),
    CONSTRAINT transfers_order CHECK (order_id IS NOT NULL OR kind = 'payment')
);
CREATE UNIQUE INDEX transfers_one_hold ON transfers (order_id) WHERE kind = 'hold';
CREATE UNIQUE INDEX transfers_one_end ON transfers (order_id) WHERE kind IN ('capture', 'release');
CREATE INDEX transfers_paid ON transfers (order_id) WHERE kind = 'payment';
CREATE INDEX transfers_by_debit ON transfers (debit);
CREATE INDEX transfers_by_credit ON transfers (credit);

CREATE TABLE payment_notices (
    tenant text NOT NULL,
    provider text NOT NULL,
    notice_id text NOT NULL,
    customer_id text NOT NULL,
    fen bigint NOT NULL,
    order_id text,
    transfer_id bigint NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (tenant, provider, notice_id)
);
COMMENT ON COLUMN payment_notices.transfer_id IS 'of the payment it made';

INSERT INTO transfers (order_id, kind, debit, credit, fen, at_ms)
    SELECT id, 'hold', 'customer/' || tenant || '/' || customer_id, 'escrow/' || tenant,
           price_fen, created_at_ms
    FROM orders WHERE price_fen > 0 ORDER BY created_at_ms, id;
INSERT INTO transfers (order_id, kind, debit, credit, fen, at_ms)
    SELECT o.id, 'capture', 'escrow/' || o.tenant, 'sales/' || o.tenant, o.price_fen, e.at_ms
    FROM orders o JOIN events e ON e.day = o.created_at_ms / {DAY_MS}
        AND e.subject_kind = 'order' AND e.subject_id = o.id AND e.seq = o.version
    WHERE o.price_fen > 0 AND o.state = 'completed';
INSERT INTO transfers (order_id, kind, debit, credit, fen, at_ms)
    SELECT o.id, 'release', 'escrow/' || o.tenant, 'customer/' || o.tenant || '/' || o.customer_id,
           o.price_fen, e.at_ms
    FROM orders o JOIN events e ON e.day = o.created_at_ms / {DAY_MS}
        AND e.subject_kind = 'order' AND e.subject_id = o.id AND e.seq = o.version
    WHERE o.price_fen > 0 AND o.state IN ('cancelled_customer', 'cancelled_merchant',
        'cancelled_system', 'expired', 'returned', 'failed');
"""

# --- what is refused ---------------------------------------------------------------------------

# The rules stand in the triggers' conditions, so that a function runs only to refuse.
RULES = (
    """
    CREATE FUNCTION refuse_move() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% %: no move from % to %', TG_TABLE_NAME,
            coalesce(to_jsonb(NEW) ->> 'id', to_jsonb(NEW) ->> 'order_id'),
            CASE TG_OP WHEN 'INSERT' THEN 'nothing' ELSE to_jsonb(OLD) ->> 'state' END, NEW.state
            USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME;
    END
    $$
    """,
    """
    CREATE FUNCTION refuse_row() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '%: % refused, %', TG_TABLE_NAME, TG_OP, TG_ARGV[0]
            USING ERRCODE = 'restrict_violation', CONSTRAINT = TG_NAME;
    END
    $$
    """,
    """
    CREATE TRIGGER orders_first BEFORE INSERT ON orders FOR EACH ROW
        WHEN (NEW.state NOT IN ('scheduled', 'open')) EXECUTE FUNCTION refuse_move()
    """,
    f"""
    CREATE TRIGGER orders_moves BEFORE UPDATE ON orders FOR EACH ROW
        WHEN (OLD.state <> NEW.state
              AND OLD.state || '>' || NEW.state NOT IN ({among(ORDER_MOVES)}))
        EXECUTE FUNCTION refuse_move()
    """,
    """
    CREATE TRIGGER orders_fixed BEFORE UPDATE ON orders FOR EACH ROW
        WHEN (OLD.id <> NEW.id OR OLD.tenant <> NEW.tenant OR OLD.city <> NEW.city
              OR OLD.customer_id <> NEW.customer_id OR OLD.created_at_ms <> NEW.created_at_ms
              OR OLD.price_fen <> NEW.price_fen)
        EXECUTE FUNCTION refuse_row('id, tenant, city, customer, creation and price are fixed')
    """,
    """
    CREATE TRIGGER orders_versions BEFORE UPDATE ON orders FOR EACH ROW
        WHEN (NEW.version < OLD.version OR (NEW.version = OLD.version
              AND (NEW.state <> OLD.state OR NEW.rider_id IS DISTINCT FROM OLD.rider_id)))
        EXECUTE FUNCTION refuse_row('a state changes with a higher version')
    """,
    """
    CREATE TRIGGER orders_kept BEFORE DELETE ON orders FOR EACH ROW
        EXECUTE FUNCTION refuse_row('orders are kept')
    """,
    """
    CREATE TRIGGER orders_all_kept BEFORE TRUNCATE ON orders FOR EACH STATEMENT
        EXECUTE FUNCTION refuse_row('orders are kept')
    """,
    """
    CREATE TRIGGER assignments_first BEFORE INSERT ON assignments FOR EACH ROW
        WHEN (NEW.state <> 'offered') EXECUTE FUNCTION refuse_move()
    """,
    f"""
    CREATE TRIGGER assignments_moves BEFORE UPDATE ON assignments FOR EACH ROW
        WHEN (OLD.state <> NEW.state
              AND OLD.state || '>' || NEW.state NOT IN ({among(ASSIGNMENT_MOVES)}))
        EXECUTE FUNCTION refuse_move()
    """,
    """
    CREATE TRIGGER assignments_fixed BEFORE UPDATE ON assignments FOR EACH ROW
        WHEN (OLD.order_id <> NEW.order_id OR OLD.number <> NEW.number
              OR OLD.rider_id <> NEW.rider_id)
        EXECUTE FUNCTION refuse_row('order, number and rider are fixed')
    """,
    """
    CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE ON events
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE ON transfers
        FOR EACH ROW EXECUTE FUNCTION refuse_change()
    """,
    """
    CREATE TRIGGER transfers_no_truncate BEFORE TRUNCATE ON transfers
        FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()
    """,
)

# Planned at each call: with the day at hand one partition is looked at, not all of them. Deferred:
# the row and its events may be two statements of a transaction, the row first.
HISTORIES = (
    f"""
    CREATE FUNCTION check_order_events() RETURNS trigger LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan AS $$
    DECLARE
        known integer := 0;
        found_events bigint;
        on_day integer := NEW.created_at_ms / {DAY_MS};
    BEGIN
        IF TG_OP = 'UPDATE' THEN
            known := OLD.version;
        END IF;
        SELECT count(*) INTO found_events FROM events WHERE day = on_day
            AND subject_kind = 'order' AND subject_id = NEW.id
            AND seq > known AND seq <= NEW.version;
        IF found_events <> NEW.version - known THEN
            RAISE EXCEPTION 'order %: version % to % with % events', NEW.id, known, NEW.version,
                found_events USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION check_rider_event() RETURNS trigger LANGUAGE plpgsql
    SET plan_cache_mode = force_custom_plan AS $$
    BEGIN
        IF NEW.version <> OLD.version + 1 OR NOT EXISTS (SELECT FROM events WHERE day = NEW.day
                AND subject_kind = 'rider' AND subject_id = NEW.id AND seq = NEW.version) THEN
            RAISE EXCEPTION 'rider %: version % to % without its event', NEW.id, OLD.version,
                NEW.version USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    f"""
    CREATE FUNCTION check_event_subjects() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE
        wrong record;
    BEGIN
        SELECT e.subject_kind, e.subject_id, e.seq INTO wrong FROM added e
        WHERE NOT coalesce(CASE e.subject_kind
            WHEN 'order' THEN (
                SELECT e.seq <= o.version AND e.day = o.created_at_ms / {DAY_MS}
                       AND e.tenant = o.tenant AND e.city = o.city
                FROM orders o WHERE o.id = e.subject_id)
            ELSE (
                SELECT e.seq = r.version AND e.day = r.day AND e.tenant = r.tenant
                       AND e.city = r.city
                FROM riders r WHERE r.id = e.subject_id) END, false)
        LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION 'event % of % %: its row does not count it', wrong.seq,
                wrong.subject_kind, wrong.subject_id
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE CONSTRAINT TRIGGER orders_have_events AFTER INSERT ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_order_events()
    """,
    """
    CREATE CONSTRAINT TRIGGER orders_go_on_with_events AFTER UPDATE ON orders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION check_order_events()
    """,
    """
    CREATE CONSTRAINT TRIGGER riders_go_on_with_events AFTER UPDATE ON riders
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
        WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION check_rider_event()
    """,
    """
    CREATE TRIGGER riders_first BEFORE INSERT ON riders FOR EACH ROW
        WHEN (NEW.version <> 0) EXECUTE FUNCTION refuse_row('a rider starts with no event')
    """,
    """
    CREATE TRIGGER riders_versions BEFORE UPDATE ON riders FOR EACH ROW
        WHEN (NEW.version = OLD.version AND (NEW.state <> OLD.state OR NEW.day <> OLD.day))
        EXECUTE FUNCTION refuse_row('a state changes with a higher version')
    """,
    """
    CREATE TRIGGER events_have_rows AFTER INSERT ON events REFERENCING NEW TABLE AS added
        FOR EACH STATEMENT EXECUTE FUNCTION check_event_subjects()
    """,
    """
    CREATE FUNCTION check_hold() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM FROM orders o WHERE o.id = NEW.order_id AND o.price_fen = NEW.fen
            AND NEW.debit = 'customer/' || o.tenant || '/' || o.customer_id
            AND NEW.credit = 'escrow/' || o.tenant;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'order %: a hold is of its price, from its customer', NEW.order_id
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION check_end() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM FROM transfers h WHERE h.order_id = NEW.order_id AND h.kind = 'hold'
            AND h.fen = NEW.fen AND h.credit = NEW.debit
            AND (NEW.kind = 'capture' OR h.debit = NEW.credit);
        IF NOT FOUND THEN
            RAISE EXCEPTION 'order %: a % is of what was held, to the fen', NEW.order_id, NEW.kind
                USING ERRCODE = 'integrity_constraint_violation';
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER transfers_hold AFTER INSERT ON transfers FOR EACH ROW
        WHEN (NEW.kind = 'hold') EXECUTE FUNCTION check_hold()
    """,
    """
    CREATE TRIGGER transfers_end AFTER INSERT ON transfers FOR EACH ROW
        WHEN (NEW.kind IN ('capture', 'release')) EXECUTE FUNCTION check_end()
    """,
)


def upgrade() -> None:
    for text in (EVENTS, MOVE, MONEY):
        if text is EVENTS:
            run(PARTS)
        run(text.split(";\n"))
    run(RULES)
    run(HISTORIES)


def run(statements: tuple[str, ...] | list[str]) -> None:
    for statement in statements:
        if statement.strip():
            op.execute(statement)
