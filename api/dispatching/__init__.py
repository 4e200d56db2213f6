"""The live drivers of the cities' dispatchers; may import the store, the feed, the pool, dispatch.

| module | holds |
|---|---|
| `build` | what live and replay build alike |
| `shares` | which process is to have which city |
| `lease` | what a process knows of its right to a city |
| `process` | all cities of one process: heartbeat, taking, handing over |
| `city` | one city: its inputs, its loop, its journal |
| `effects` | one city: decide, write, ask |
| `recorder` | the journal, written by a thread that may fail |
"""

from api.dispatching.build import City, empty_plan, fixes_of, make_dispatcher
from api.dispatching.city import CityDispatcher
from api.dispatching.lease import Lease, LeaseLost
from api.dispatching.process import Dispatching
from api.dispatching.shares import share

__all__ = [
    "City",
    "CityDispatcher",
    "Dispatching",
    "Lease",
    "LeaseLost",
    "empty_plan",
    "fixes_of",
    "make_dispatcher",
    "share",
]
