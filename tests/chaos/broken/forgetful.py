"""`hexrun` whose store forgets every third time to put what has happened into the outbox."""

from itertools import count

from api.cli import main
from api.store.statement import Statement

honest = Statement.add
writes = count(1)


def add(self, name, sql, *values):
    if name == "told" and next(writes) % 3 == 0:
        sql = f"{sql} WHERE false"
    honest(self, name, sql, *values)


Statement.add = add
main()
