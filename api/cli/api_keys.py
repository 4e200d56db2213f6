"""`hexrun key`: the first API key of an installation; may import the store."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from api.cli.database import open_store
from api.clock import DAY_MS, now_ms
from api.http.forms import ID_PATTERN
from api.settings import city_name
from api.store.keys import Deed, NewKey
from geo.errors import InvalidValue, UnknownName

ROLES = ("integrator", "merchant", "operator")
DAYS_MAX = 36_500


def create(
    *, role: str, sub: str, tenant: str, city: str | None, label: str, days: int | None, data: Path
) -> None:
    """Make a key in the database of the environment, or of the folder, and print it."""
    if role not in ROLES:
        raise UnknownName("role", role, "one of " + ", ".join(ROLES))
    for name, value in (("sub", sub), ("tenant", tenant)):
        if not ID_PATTERN.fullmatch(value):
            raise InvalidValue(name, value, f"text like {ID_PATTERN.pattern}")
    if days is not None and days > DAYS_MAX:
        raise InvalidValue("days", days, f"at most {DAYS_MAX}")
    at_ms = now_ms()
    expires_at_ms = None if days is None else at_ms + days * DAY_MS
    where = city or city_name(os.environ, data)
    made = asyncio.run(_create(data, role, sub, tenant, where, label, at_ms, expires_at_ms))
    print(made.text)


async def _create(
    data: Path,
    role: str,
    sub: str,
    tenant: str,
    city: str,
    label: str,
    at_ms: int,
    expires_at_ms: int | None,
) -> NewKey:
    async with open_store(data) as store:
        made = await store.keys.create(
            tenant=tenant,
            city=city,
            role=role,
            sub=sub,
            label=label,
            at_ms=at_ms,
            expires_at_ms=expires_at_ms,
        )
        await store.keys.note(
            Deed(
                at_ms=at_ms,
                tenant=tenant,
                city=city,
                role="operator",
                sub="command line",
                key_id="",
                action="hexrun key create",
                object=made.key.id,
                address="local",
                outcome=201,
            )
        )
        return made
