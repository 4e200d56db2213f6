"""Who may come in: tokens, API keys, and what was revoked; may import auth, the store and metrics.

Every process reads the revocations again each READ_S, and the secret's file with them. When
PostgreSQL is away, what is known stays refused. What is not known can only be missed where others
still reach the database: so after BLIND_MAX_S without a reading, a token is good only for that
long from its making. No revocation is missed for longer than BLIND_MAX_S, whatever happens.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path

import structlog

from api.auth import TTL_S, TTL_S_MAX, Claims, Role, Tokens
from api.cancelling import end_if_cancelled
from api.clock import now_ms
from api.metrics import Mode, degraded
from api.settings import Settings, read_secret_file
from api.store import UNAVAILABLE, Store
from api.store.keys import KEY_PREFIX, Revocation
from geo.errors import InvalidValue, Unauthorised, Unavailable

log = structlog.get_logger(__name__)

READ_S = 5.0
READ_LIMIT_S = 10.0
BLIND_MAX_S = TTL_S
_AWAY: tuple[type[Exception], ...] = (*UNAVAILABLE, TimeoutError)


class Guard:
    """Checks who comes in, and who may stay, in one process. `clock` gives ms since 1970."""

    def __init__(
        self,
        tokens: Tokens,
        store: Store,
        secret_file: Path | None = None,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self.tokens = tokens
        self._store, self._secret_file, self._clock = store, secret_file, clock
        self._over: dict[tuple[str, str, str, str], int] = {}
        self._read_ms = 0
        self._wake = asyncio.Event()

    @classmethod
    def of(cls, settings: Settings, store: Store) -> Guard:
        """The guard of a process with these settings."""
        return cls(Tokens(settings.secret), store, settings.secret_file)

    # --- one who comes ------------------------------------------------------------------------

    def token(self, text: str) -> Claims:
        """The claims of a token that is good now.

        Raises:
            Unauthorised: see `Tokens.verify`; or it was revoked; or it is an API key.
            Unavailable: see `check`.
        """
        if text.startswith(KEY_PREFIX):
            raise Unauthorised("an API key is for HTTP: exchange it at POST /v1/tokens")
        claims = self.tokens.verify(text)
        self.check(claims)
        return claims

    async def bearer(self, text: str) -> Claims:
        """The claims of a token, or of an API key while it is good. Raises as `token` does."""
        if not text.startswith(KEY_PREFIX):
            return self.token(text)
        at_ms = self._clock()
        key = await self._store.keys.find(text, at_ms)
        if key is None:
            raise Unauthorised("API key is unknown: never made, or deleted")
        if key.expires_at_ms is not None and key.expires_at_ms <= at_ms:
            raise Unauthorised("API key is expired", genuine=True)
        return Claims(
            sub=key.sub,
            role=Role(key.role),
            tenant=key.tenant,
            city=key.city,
            iat=at_ms // 1000,
            exp=(key.expires_at_ms or at_ms + TTL_S_MAX * 1000) // 1000,
            key=key.id,
        )

    def check(self, claims: Claims) -> None:
        """Whether the token of these claims is still good, its end apart.

        Raises:
            Unauthorised: it was revoked, or its line of the secret was taken out.
            Unavailable: the revocations could not be read for so long that it may have been.
        """
        if claims.kid and not self.tokens.knows(claims.kid):
            raise Unauthorised("token is foreign: its line of the secret was taken out")
        for kind, value in (
            ("token", claims.jti),
            ("subject", f"{claims.role}/{claims.sub}"),
            ("key", claims.key),
        ):
            at_ms = self._over.get((claims.tenant, claims.city, kind, value))
            if at_ms is not None and (kind == "key" or claims.iat * 1000 <= at_ms):
                raise Unauthorised("token is revoked", genuine=True)
        at_ms = self._clock()
        blind_s, age_s = (at_ms - self._read_ms) / 1000, at_ms / 1000 - claims.iat
        if blind_s > BLIND_MAX_S and age_s > BLIND_MAX_S:
            raise Unavailable(
                "the revocations cannot be read: until they can, a token is good for "
                f"{BLIND_MAX_S} s from its making; ask for a fresh one"
            )

    # --- what was revoked ---------------------------------------------------------------------

    async def read(self) -> bool:
        """Read revocations and secret; whether anybody may have to go. Raises UNAVAILABLE's."""
        renewed = self._renew()
        at_ms = self._clock()
        found = await self._store.keys.revoked(at_ms)
        over = _by_holder(found)
        changed, self._over, self._read_ms = over != self._over, over, at_ms
        return changed or renewed

    async def run(self, changed: Callable[[], None] = lambda: None) -> None:
        """Read again and again until cancelled, at once after SIGHUP; calls `changed`.

        Also while the database is away: then tokens may end by their age.
        """
        while True:
            if await self.look():
                changed()
            end_if_cancelled()
            await self._pause()

    async def look(self) -> bool:
        """`read` within READ_LIMIT_S, whatever comes of it; whether anybody may have to go.

        An error of any kind is a reading that failed: a guard that ends would keep letting in
        whom others refuse, unseen.
        """
        try:
            async with asyncio.timeout(READ_LIMIT_S):
                news = await self.read()
        except Exception as error:
            end_if_cancelled()
            if not isinstance(error, _AWAY):
                log.exception("revocations_not_read")
            degraded(Mode.REVOCATIONS_STALE, True, error=type(error).__name__)
            return True
        degraded(Mode.REVOCATIONS_STALE, False)
        return news

    def hurry(self) -> None:
        """Read at once."""
        self._wake.set()

    def hurry_on_hangup(self) -> None:
        """Read at once when the process gets SIGHUP. Only the main thread can be asked."""
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.hurry)
        except (RuntimeError, ValueError):
            log.debug("no_signals_in_this_thread")

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(READ_S):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def _renew(self) -> bool:
        """The secret of the file, if it is one; a broken file changes nothing."""
        if self._secret_file is None:
            return False
        try:
            renewed = self.tokens.renew(read_secret_file(self._secret_file))
        except (InvalidValue, OSError, UnicodeDecodeError) as error:
            log.error("secret_not_read", error=type(error).__name__, path=str(self._secret_file))
            return False
        if renewed:
            log.info("secret_renewed")
        return renewed


def _by_holder(found: list[Revocation]) -> dict[tuple[str, str, str, str], int]:
    over: dict[tuple[str, str, str, str], int] = {}
    for one in found:
        holder = (one.tenant, one.city, one.kind, one.value)
        over[holder] = max(over.get(holder, 0), one.at_ms)
    return over
