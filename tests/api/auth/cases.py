"""What a cell of `matrix.py` asks for: a person of his own, the objects, the path and the body."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from api.clock import now_ms
from dispatch.commands import Claim

PLACE = {"lat": 31.2285, "lon": 121.4782}


def routes_of(routes: Any) -> Iterator[str]:
    """`METHOD path` of every route, of included routers too, described or not."""
    for route in routes:
        if inner := getattr(route, "original_router", None):
            yield from routes_of(inner.routes)
        for method in (getattr(route, "methods", None) or set()) - {"HEAD", "OPTIONS"}:
            yield f"{method} {route.path}"


BODIES: dict[str, Any] = {
    "POST /v1/orders/{order_id}/cancel": {},
    "POST /v1/keys": {"role": "integrator", "sub": "erp"},
    "POST /v1/tokens": {"role": "customer", "sub": "cora"},
    "POST /v1/tokens/revoke": {"role": "customer", "sub": "cora"},
    "POST /v1/webhooks": {"url": "https://93.184.216.34/hook"},
    "PATCH /v1/webhooks/{endpoint_id}": {"description": "till", "kinds": ["placed"]},
    "POST /v1/webhooks/{endpoint_id}/rotate-secret": {},
}


class Case:
    """One cell: a person of his own, and the objects that he asks for."""

    def __init__(self, house: Any, number: int, whose: str, role: str) -> None:
        self.house, self.role, self.whose = house, role, whose
        self.me = f"p{number}"
        self.owner = self.me if whose != "another's" else f"q{number}"
        self.tenant = "else" if whose == "tenant" else "default"
        self.city = "bj" if whose == "city" else "demo"

    @property
    def place(self) -> dict[str, str]:
        return {"tenant": self.tenant, "city": self.city}

    async def path(self, route: str) -> tuple[str, str]:
        method, _, path = route.partition(" ")
        if path.endswith("/claim"):
            path = path.format(order_id=await self.hall_order())
        elif "{order_id}" in path:
            path = path.format(order_id=(await self.house.order(self.owner, **self.place)).id)
        elif "{rider_id}" in path:
            await self.house.rider(self.owner, **self.place)
            path = path.format(rider_id=self.owner)
        elif "{key_id}" in path:
            key = await self.house.key(sub=self.owner, **self.place)
            path = path.format(key_id=key.split("_")[1])
        elif "{endpoint_id}" in path:
            path = path.format(endpoint_id=await self.house.endpoint(**self.place), position=1)
        elif "{city}" in path:
            path = path.format(city=self.city)
        elif path == "/v1/hall" and self.role == "rider":
            await self.house.on_shift(self.me, **self.place)
        return method, path

    async def hall_order(self) -> str:
        """One that waits, or one that another rider has; the asker is on shift."""
        if self.role == "rider":
            await self.house.on_shift(self.me)
        order = await self.house.order("cora", **self.place, hall=True)
        if self.whose == "another's":
            await self.house.on_shift(self.owner)
            claim = Claim(at_ms=now_ms(), rider_id=self.owner)
            taken = await self.house.store.hall.claim(
                order.id, claim, tenant="default", city="demo"
            )
            assert taken.refusal is None
        return str(order.id)

    async def payment(self) -> dict[str, Any]:
        """A notice for the asker, about his order or what is not his."""
        order = await self.house.order(self.owner, **self.place)
        notice = {"provider": "wechat", "notice_id": self.me, "fen": 1}
        return notice | {"customer_id": self.me, "order_id": order.id}

    async def body(self, route: str) -> Any:
        match route:
            case "POST /v1/quotes" | "POST /v1/orders":
                body = {"stops": [{"place": PLACE}, {"place": PLACE | {"lat": 31.24}}]}
                buyer = self.role not in ("customer", "merchant")
                name = "merchant_id" if self.role == "merchant" else "customer_id"
                body |= {"customer_id": "cora"} if self.role == "merchant" else {}
                return body | ({name: self.owner} if buyer or self.owner != self.me else {})
            case "POST /v1/payments/notices":
                return await self.payment()
            case "POST /v1/erasures":
                kind = "rider_id" if self.role == "rider" else "customer_id"
                return {kind: self.owner}
            case "POST /v1/riders":
                if self.whose in ("tenant", "city"):
                    await self.house.rider(self.owner, **self.place)
                return {"id": self.owner}
            case "POST /v1/riders/{rider_id}/shift":
                return {"on": True, "shift_end_ms": now_ms() + 3_600_000, "place": PLACE}
        return BODIES.get(route)


async def ask(case: Case, route: str, bearer: str | None) -> Any:
    method, path = await case.path(route)
    body = await case.body(route)
    return await case.house.ask(bearer, method, path, body, **{"Idempotency-Key": case.me})
