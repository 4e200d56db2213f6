"""Routes for whoever keeps the process running: does it live, can it serve; may import FastAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from api.exposition import degraded_now
from api.http.access import WithCapacity, WithParts
from api.store import UNAVAILABLE

router = APIRouter(tags=["health"])

ANSWER_LIMIT_S = 2.0
_NO_ANSWER: tuple[type[Exception], ...] = (RedisError, *UNAVAILABLE)


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(parts: WithParts, capacity: WithCapacity) -> JSONResponse:
    """200 when PostgreSQL and Redis answer and the process stays, else 503; each is named."""
    postgres, redis = await asyncio.gather(_asked(parts.store.ping()), _asked(parts.redis.ping()))
    ready = postgres == redis == "ok" and not capacity.leaving
    body = {
        "postgres": postgres,
        "redis": redis,
        "leaving": capacity.leaving,
        "degraded": degraded_now(),
    }
    return JSONResponse(body, 200 if ready else 503, {} if ready else {"Retry-After": "1"})


async def _asked(question: Awaitable[object]) -> str:
    try:
        async with asyncio.timeout(ANSWER_LIMIT_S):
            await question
    except _NO_ANSWER as error:
        return f"no answer: {type(error).__name__}"
    return "ok"
