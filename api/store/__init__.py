"""PostgreSQL behind one class: orders, riders, their events, the feed and the leases.

| module | holds |
|---|---|
| `schema`, `migrations`, `migrate` | the tables, and how a database gets them |
| `values` | what goes in and comes out |
| `rows`, `cancelling` | the set-based writes; how retrying loops end |
| `orders`, `riders`, `plans` | the transactions that change something |
| `reading`, `leases`, `sequencing` | the queries, the cities' leases, the sequencer's session |
| `store` | `Store`, all of it behind one name |
"""

from api.store.cancelling import end_if_cancelled
from api.store.migrate import migrate
from api.store.sequencing import Sequencing
from api.store.store import UNAVAILABLE, Store
from api.store.values import (
    CityState,
    Created,
    IdempotencyKey,
    Outcome,
    Positioned,
    Receipt,
    RiderOutcome,
    Written,
)

__all__ = [
    "UNAVAILABLE",
    "CityState",
    "Created",
    "IdempotencyKey",
    "Outcome",
    "Positioned",
    "Receipt",
    "RiderOutcome",
    "Sequencing",
    "Store",
    "Written",
    "end_if_cancelled",
    "migrate",
]
