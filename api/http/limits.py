"""Refuses a request that is too long before it is read into memory; imports Starlette's types."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import error_response

BODY_BYTES_MAX = 256 * 1024
TOO_LARGE = f"the body is longer than {BODY_BYTES_MAX} bytes"


class BodyLimit:
    """ASGI middleware: 413 for a body over `BODY_BYTES_MAX`, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > BODY_BYTES_MAX:
            await error_response(413, "too_large", TOO_LARGE)(scope, receive, send)
            return
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > BODY_BYTES_MAX:
                # Raised where a route reads its body, so it is answered like a route's error.
                raise HTTPException(413, TOO_LARGE)
            return message

        await self._app(scope, limited, send)
