"""The HTTP API: quotes, orders, riders, events, the status of the city and the console.

| module | holds |
|---|---|
| `app`, `serve` | the application, and the process that serves it |
| `forms`, `answers` | what is asked and what is told, as pydantic models |
| `access` | who asks, and what he may reach |
| `places` | coordinates in and out |
| `prices` | quotes, and the token that keeps a price |
| `personal` | who sees which personal data; contacts and erasure |
| `orders`, `riders`, `events`, `city`, `health`, `console` | the routes |
| `webhooks` | the routes of the endpoints to which events are sent |
| `errors`, `limits` | one shape for every error; how long a request may be |
"""

from api.http.app import make_app
from api.http.serve import serve_http

__all__ = ["make_app", "serve_http"]
