"""Digests of what clients sent, by which a retry is told from another request.

May import SQLAlchemy, the keys and the personal table. The digest is keyed, as who reads the
database must not try phones until one fits. Its key is made once and is the same in every process
and in a backup: tokens' secrets and data keys are rotated, and a retry may come after that. It lies
among the personal data, sealed by the data keys, and is sealed again with those.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets

import structlog
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from api.clock import now_ms
from api.data_keys import Box, KeyRing
from api.personal import Sealed
from api.store.personal import put
from api.store.schema import personal
from geo.errors import StartupError, Unreadable

SUBJECT = "installation/digests"
KEY_BYTES = 32

_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended('installation/digests', 0))")
log = structlog.get_logger(__name__)


class Digests:
    """Keyed digests; the first one asks the database for the key."""

    def __init__(self, engine: AsyncEngine, keys: KeyRing | None) -> None:
        self._engine, self._ring = engine, keys
        self._key: bytes | None = None
        self._asking = asyncio.Lock()

    async def of(self, asked: str) -> str:
        """HMAC-SHA-256, hexadecimal.

        Raises:
            StartupError: the process was given no keys of personal data.
            One of `UNAVAILABLE`: PostgreSQL is away, and the key not known yet.
        """
        async with self._asking:
            if self._key is None:
                self._key = await self._fetch()
        return hmac.new(self._key, asked.encode(), hashlib.sha256).hexdigest()

    async def _fetch(self) -> bytes:
        if self._ring is None:
            raise StartupError("this process was given no keys of personal data")
        async with self._engine.begin() as connection:
            await connection.execute(_LOCK)  # two that start together make one key
            query = select(personal).where(personal.c.subject == SUBJECT)
            found = (await connection.execute(query)).one_or_none()
            if found is not None:
                try:
                    box = Box(found.key_id, found.nonce, found.ciphertext)
                    return self._ring.open_box(SUBJECT, box)
                except Unreadable:
                    # The data keys are lost: orders are taken all the same, by a new one.
                    log.error("personal_unreadable", subject=SUBJECT, key_id=found.key_id)
            key = secrets.token_bytes(KEY_BYTES)
            made = Sealed(SUBJECT, "", "", SUBJECT, *self._ring.seal(SUBJECT, key), now_ms())
            await put(connection, made)
            return key
