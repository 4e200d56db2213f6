"""Puts the HTTP application together; may import FastAPI and the routes."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from redis.asyncio import Redis

from api.guard import Guard
from api.http import (
    audit,
    city,
    console,
    errors,
    events,
    hall,
    health,
    keys,
    orders,
    payments,
    personal,
    riders,
    tokens,
    webhooks,
)
from api.http.access import Parts
from api.http.limits import BodyLimit
from api.http.meter import Meter
from api.http.meter import router as metrics
from api.http.ratelimit import StrangerLimit
from api.http.valve import Capacity, Valve
from api.rates import Rates
from api.settings import Settings
from api.store import Store


def make_app(
    store: Store, settings: Settings, redis: Redis, *, console_folder: Path = console.DIST
) -> FastAPI:
    """The application on an open store. `GET /openapi.json` describes it."""
    # The ready-made pages for the description load their script from other hosts.
    app = FastAPI(title="hexrun", version="1", docs_url=None, redoc_url=None)
    guard, rates = Guard.of(settings, store), Rates(settings.rates, redis)
    app.state.parts = Parts(store=store, settings=settings, redis=redis, guard=guard, rates=rates)
    app.state.capacity = Capacity(settings.limits)
    # The last one added is the first to see a request.
    app.add_middleware(BodyLimit)
    app.add_middleware(audit.AuditTrail, store=store)
    app.add_middleware(StrangerLimit, rates=rates)
    app.add_middleware(Valve, capacity=app.state.capacity)
    app.add_middleware(Meter)
    errors.install(app)
    about_jobs = (orders, hall, riders, payments, events, webhooks, city, personal)
    for part in (*about_jobs, keys, tokens, audit, health):
        app.include_router(part.router)
    app.include_router(metrics)
    console.install(app, console_folder)
    return app
