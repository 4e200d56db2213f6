"""PostgreSQL behind one class: orders, riders, their events, the feed and the leases.

| module | holds |
|---|---|
| `schema`, `migrations`, `migrate` | the tables, and how a database gets them |
| `values` | what goes in and comes out |
| `rows` | the set-based writes |
| `orders`, `riders`, `plans` | the transactions that change something |
| `reading`, `leases`, `sequencing` | the queries, the cities' leases, the sequencer's session |
| `ring` | the keys of personal data at a start |
| `store` | `Store`, all of it behind one name |
"""

from api.store.migrate import migrate
from api.store.ring import open_ring
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
    "migrate",
    "open_ring",
]
