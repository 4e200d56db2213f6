"""Counts every request by route and status; gives the metrics; may import prometheus_client."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.clock import monotonic_s
from api.exposition import METRICS_PATH, exposed, may_read
from api.http.access import Parts, parts_of
from geo.errors import Forbidden

router = APIRouter(tags=["health"])

_REQUESTS = Counter(
    "hexrun_http_requests_total", "answered requests", ["method", "route", "status"]
)
_SECONDS = Histogram(
    "hexrun_http_request_seconds",
    "from the request's head to the answer's end",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
_UNDER_WAY = Gauge("hexrun_http_requests_under_way", "requests that are not answered yet")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


class Meter:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began_s = 500, monotonic_s()

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        _UNDER_WAY.inc()
        try:
            await self._app(scope, receive, noted)
        finally:
            _UNDER_WAY.dec()
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in _METHODS else "other"
            _REQUESTS.labels(method, route, status).inc()
            _SECONDS.labels(route).observe(monotonic_s() - began_s)


@router.get(METRICS_PATH, include_in_schema=False)
async def metrics(request: Request, parts: Annotated[Parts, Depends(parts_of)]) -> Response:
    """Prometheus' text of this process, for private addresses unless the settings say otherwise."""
    peer = request.client.host if request.client is not None else None
    if not may_read(peer, parts.settings.metrics_for):
        raise Forbidden("metrics are not for this address: see HEXRUN_METRICS")
    text, kind = exposed()
    return Response(text, media_type=kind)
