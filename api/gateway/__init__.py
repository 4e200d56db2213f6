"""The websocket gateway: riders' fixes in, offers, routes and moving riders out.

| module | holds |
|---|---|
| `server`, `room` | the process: sockets, tasks, the way out; what it keeps of each city |
| `door`, `entrance`, `registry` | who comes in, who stays out when it is full, whose a rider is |
| `connection`, `outbox` | one client: effects of his session, what waits for him |
| `ingest`, `marks` | fixes to the journal and the pool, acknowledgements |
| `mirror`, `followers` | what the gateway knows of its city, and from where |
| `audience` | who listens to what |
| `counters` | what is counted for Prometheus |
| `publish`, `city_map`, `views` | what riders and customers, and what operators are told |
"""

from api.gateway.server import serve_gateway

__all__ = ["serve_gateway"]
