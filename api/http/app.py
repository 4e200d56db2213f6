"""Puts the HTTP application together; may import FastAPI and the routes."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from redis.asyncio import Redis

from api.auth import Tokens
from api.http import city, console, errors, events, hall, health, orders, personal, riders
from api.http.access import Parts
from api.http.limits import BodyLimit
from api.http.meter import Meter
from api.http.meter import router as metrics
from api.http.valve import Capacity, Valve
from api.settings import Settings
from api.store import Store


def make_app(
    store: Store, settings: Settings, redis: Redis, *, console_folder: Path = console.DIST
) -> FastAPI:
    """The application on an open store. `GET /openapi.json` describes it."""
    # The ready-made pages for the description load their script from other hosts.
    app = FastAPI(title="hexrun", version="1", docs_url=None, redoc_url=None)
    app.state.parts = Parts(
        store=store, settings=settings, redis=redis, tokens=Tokens(settings.secret)
    )
    app.state.capacity = Capacity(settings.limits)
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimit)
    app.add_middleware(Valve, capacity=app.state.capacity)
    app.add_middleware(Meter)
    errors.install(app)
    for part in (orders, hall, riders, events, city, health, personal):
        app.include_router(part.router)
    app.include_router(metrics)
    console.install(app, console_folder)
    return app
