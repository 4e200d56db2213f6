"""Puts the HTTP application together; may import FastAPI and the routes."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from redis.asyncio import Redis

from api.auth import Tokens
from api.http import city, console, errors, events, health, orders, payments, riders
from api.http.access import Parts
from api.http.limits import BodyLimit
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
    app.add_middleware(BodyLimit)
    errors.install(app)
    for part in (orders, riders, payments, events, city, health):
        app.include_router(part.router)
    console.install(app, console_folder)
    return app
