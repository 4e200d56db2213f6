"""Counts the requests that show no good token, by address; may import Starlette's types and rates.

Who does show one is counted where his token is checked, in `api.http.access`.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.errors import response_of
from api.rates import Limit, Rates
from geo.errors import RateLimited

# Whoever watches the process must not be refused: a proxy keeps these from the outside.
UNCOUNTED = ("/livez", "/readyz", "/metrics")


class StrangerLimit:
    """ASGI middleware: 429 in the place of any answer to a stranger who asks too often.

    Pages without a token, wrong tokens, broken bodies, unknown paths: all count alike. Leaves the
    caller's address in `request.state.address`.
    """

    def __init__(self, app: ASGIApp, rates: Rates) -> None:
        self._app, self._rates = app, rates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in UNCOUNTED:
            await self._app(scope, receive, send)
            return
        peer = scope.get("client")
        forwarded = [v.decode("latin-1") for k, v in scope["headers"] if k == b"x-forwarded-for"]
        address = self._rates.address(peer[0] if peer else None, forwarded)
        state = scope.setdefault("state", {})
        state["address"] = address
        refused = False

        async def counted(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and not state.get("known"):
                try:
                    await self._rates.hit(Limit.STRANGER, address)
                except RateLimited as error:
                    refused = True
                    await response_of(error)(scope, receive, send)
            if not refused:
                await send(message)

        await self._app(scope, receive, counted)
