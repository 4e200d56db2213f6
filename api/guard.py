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

from api.auth import LEEWAY_S, TTL_S, TTL_S_MAX, Claims, Role, Tokens
from api.cancelling import end_if_cancelled
from api.clock import now_ms
from api.metrics import Mode, degraded
from api.settings import Settings, check_exposed, read_secret_file
from api.store import UNAVAILABLE, Store
from api.store.keys import KEY_PREFIX, Kind
from geo.errors import InvalidValue, StartupError, Unauthorised, Unavailable

log = structlog.get_logger(__name__)

READ_S = 5.0
READ_LIMIT_S = 10.0
# Revocations of one reading of the table; and how often those that served their time are forgotten.
PAGE = 5_000
FORGET_MS = 3_600_000
LEEWAY_MS = LEEWAY_S * 1000
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
        *,
        exposed: bool = False,
    ) -> None:
        self.tokens = tokens
        self._exposed = exposed
        self._store, self._secret_file, self._clock = store, secret_file, clock
        # By tenant, city, kind and value: from when and until when.
        self._over: dict[tuple[str, str, str, str], tuple[int, int]] = {}
        self._position = self._read_ms = self._forgot_ms = 0
        self._wake = asyncio.Event()

    @classmethod
    def of(cls, settings: Settings, store: Store) -> Guard:
        """The guard of a process with these settings."""
        tokens = Tokens(settings.secret)
        return cls(tokens, store, settings.secret_file, exposed=settings.exposed)

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
        if self._is_revoked(claims):
            raise Unauthorised("token is revoked", genuine=True)
        at_ms = self._clock()
        blind_s, age_s = (at_ms - self._read_ms) / 1000, at_ms / 1000 - claims.iat
        if blind_s > BLIND_MAX_S and age_s > BLIND_MAX_S:
            raise Unavailable(
                "the revocations cannot be read: until they can, a token is good for "
                f"{BLIND_MAX_S} s from its making; ask for a fresh one"
            )

    def _is_revoked(self, claims: Claims) -> bool:
        where = claims.tenant, claims.city
        named: list[tuple[Kind, str]] = [("key", claims.key), ("token", claims.jti)]
        if claims.role is not Role.OPERATOR:
            named.append(("lower_token", claims.jti))
        if any((*where, *one) in self._over for one in named):
            return True
        since = self._over.get((*where, "subject", f"{claims.role}/{claims.sub}"))
        # Whoever made it may have a clock that is ahead, as far as `Tokens` lets it.
        return since is not None and claims.iat * 1000 <= since[0] + LEEWAY_MS

    # --- what was revoked ---------------------------------------------------------------------

    async def read(self) -> bool:
        """Read the secret, and the revocations since the last reading, all of them at first.

        Whether anybody may have to go. A reading that is cut short goes on where it was the next
        time. Raises UNAVAILABLE's.
        """
        changed = self._renew()
        while True:
            at_ms = self._clock()
            found = await self._store.keys.revoked(self._position, at_ms, PAGE)
            for position, one in found:
                who = one.tenant, one.city, one.kind, one.value
                at, until = self._over.get(who, (0, 0))  # another reading may be ahead of this
                self._over[who] = max(at, one.at_ms), max(until, one.until_ms)
                self._position = max(self._position, position)
            changed = changed or bool(found)
            if len(found) < PAGE:
                break
        if at_ms - self._forgot_ms > FORGET_MS:
            self._over = {who: when for who, when in self._over.items() if when[1] > at_ms}
            self._forgot_ms = at_ms
        self._read_ms = at_ms
        return changed

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
        """The secret of the file, if it is one; a broken or weak one changes nothing."""
        if self._secret_file is None:
            return False
        try:
            secret = read_secret_file(self._secret_file)
            if self._exposed:
                check_exposed(secret, self._secret_file)
        except StartupError as error:
            log.error("secret_refused", why=str(error))
            return False
        except (InvalidValue, OSError, UnicodeDecodeError) as error:
            log.error("secret_not_read", error=type(error).__name__, path=str(self._secret_file))
            return False
        renewed = self.tokens.renew(secret)
        if renewed:
            log.info("secret_renewed")
        return renewed
