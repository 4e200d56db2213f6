"""Personal data in a table of their own, encrypted; old events lose the addresses they held.

The keys are not known here: orders that hold addresses and notes are only listed, and the tidying
of the running system moves those into `personal`.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE personal (
    subject text PRIMARY KEY,
    tenant text NOT NULL,
    city text NOT NULL,
    owner text NOT NULL,
    key_id text NOT NULL,
    nonce bytea NOT NULL,
    ciphertext bytea NOT NULL,
    created_at_ms bigint NOT NULL,
    erase_at_ms bigint
);
COMMENT ON COLUMN personal.subject IS 'order/<id> or rider/<id>';
COMMENT ON COLUMN personal.owner IS 'whom it is about: customer/<id> or rider/<id>';
COMMENT ON COLUMN personal.erase_at_ms IS 'not before its order or rider has ended';
CREATE INDEX personal_by_owner ON personal (tenant, owner);
CREATE INDEX personal_by_key ON personal (key_id);
CREATE INDEX personal_kept ON personal (subject) WHERE erase_at_ms IS NULL;
CREATE INDEX personal_to_erase ON personal (erase_at_ms) WHERE erase_at_ms IS NOT NULL;

CREATE TABLE unsealed (order_id text PRIMARY KEY);
COMMENT ON COLUMN unsealed.order_id IS 'its body still holds addresses in the clear';

CREATE TABLE masked_numbers (
    number text PRIMARY KEY,
    order_id text NOT NULL,
    party text NOT NULL,
    bound_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    released_at_ms bigint
);
COMMENT ON COLUMN masked_numbers.party IS 'whom it reaches: rider or stop:<n>';
CREATE UNIQUE INDEX masked_numbers_live ON masked_numbers (order_id, party)
    WHERE released_at_ms IS NULL;
"""

# A whole order without its texts; `body` is the JSON of one.
WITHOUT_TEXTS = """
CREATE FUNCTION pg_temp.without_texts(body jsonb) RETURNS jsonb LANGUAGE sql AS $$
    SELECT body || jsonb_build_object('note', '', 'stops', (
        SELECT jsonb_agg(jsonb_set(stop, '{place,text}', '""') ORDER BY n)
        FROM jsonb_array_elements(body -> 'stops') WITH ORDINALITY AS s(stop, n)))
$$
"""

ADDRESSES = (
    WITHOUT_TEXTS,
    """
    INSERT INTO unsealed
    SELECT id FROM orders
    WHERE jsonb_path_exists(body, '$.note ? (@ != "")')
       OR jsonb_path_exists(body, '$.stops[*].place.text ? (@ != "")')
    """,
    # The one rewriting of history there is: an address is not part of what happened.
    "ALTER TABLE events DISABLE TRIGGER USER",
    """
    UPDATE events SET body = jsonb_set(body, '{order}', pg_temp.without_texts(body -> 'order'))
    WHERE kind = 'placed' AND (
        jsonb_path_exists(body, '$.order.note ? (@ != "")')
        OR jsonb_path_exists(body, '$.order.stops[*].place.text ? (@ != "")'))
    """,
    """
    UPDATE events SET body = jsonb_set(body, '{stop,place,text}', '""')
    WHERE kind = 'return_added' AND body #>> '{stop,place,text}' != ''
    """,
    """
    UPDATE events SET body = jsonb_set(body, '{rider,place,text}', '""')
    WHERE kind = 'went_on_shift' AND body #>> '{rider,place,text}' != ''
    """,
    "ALTER TABLE events ENABLE TRIGGER USER",
    """
    UPDATE riders SET body = jsonb_set(body, '{place,text}', '""')
    WHERE body #>> '{place,text}' != ''
    """,
    """
    UPDATE idempotency SET answer = pg_temp.without_texts(answer) WHERE answer ? 'stops'
    """,
)


def upgrade() -> None:
    for statement in (*TABLES.split(";\n"), *ADDRESSES):
        if statement.strip():
            op.execute(statement)
