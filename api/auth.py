"""Who asks: short-lived JSON Web Tokens (RFC 7519, HS256); may import PyJWT and the clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import jwt

from api.clock import now_ms
from geo.errors import InvalidValue, Unauthorised

ALGORITHM = "HS256"
ISSUER = "hexrun"
TTL_S = 15 * 60
TTL_S_MAX = 31 * 86_400
TOKEN_CHARS_MAX = 4_096
CLAIM_CHARS_MAX = 128
# How far the clocks of two machines that share the secret may be apart.
LEEWAY_S = 10


class Role(StrEnum):
    CUSTOMER = "customer"
    MERCHANT = "merchant"
    RIDER = "rider"
    OPERATOR = "operator"
    INTEGRATOR = "integrator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """A token's holder: `sub` is his id in his role; `iat` and `exp` are seconds since 1970."""

    sub: str
    role: Role
    tenant: str
    city: str
    iat: int
    exp: int


class Tokens:
    """Makes and checks the tokens of one secret. `clock` gives milliseconds since 1970."""

    def __init__(self, secret: str, clock: Callable[[], int] = now_ms) -> None:
        self._secret, self._clock = secret, clock

    def mint(
        self,
        *,
        sub: str,
        role: Role | str,
        tenant: str = "default",
        city: str = "demo",
        ttl_s: int = TTL_S,
    ) -> str:
        """A token for `sub` that lasts `ttl_s` seconds.

        Raises:
            InvalidValue: no such role, an empty or too long text, or more than 31 days.
        """
        if role not in tuple(Role):
            raise InvalidValue("role", role, "one of " + ", ".join(Role))
        for name, value in (("sub", sub), ("tenant", tenant), ("city", city)):
            if not 1 <= len(value) <= CLAIM_CHARS_MAX:
                raise InvalidValue(name, value, f"1 to {CLAIM_CHARS_MAX} characters")
        if not 0 < ttl_s <= TTL_S_MAX:
            raise InvalidValue("ttl_s", ttl_s, f"1 to {TTL_S_MAX} seconds")
        claims = {"sub": sub, "role": str(role), "tenant": tenant, "city": city}
        return self.sign(ISSUER, claims, ttl_s)

    def verify(self, token: str) -> Claims:
        """The claims of a token of ours that is not over.

        Raises:
            Unauthorised: missing, malformed, expired, or signed by somebody else; says which.
        """
        claims = self.open(ISSUER, token)
        role = claims.get("role")
        texts = [claims.get(name) for name in ("sub", "tenant", "city")]
        if role not in tuple(Role) or not all(isinstance(t, str) and t for t in texts):
            raise Unauthorised("token is malformed: it lacks a claim, or its role is unknown")
        return Claims(
            sub=claims["sub"],
            role=Role(role),
            tenant=claims["tenant"],
            city=claims["city"],
            iat=claims["iat"],
            exp=claims["exp"],
        )

    def sign(self, issuer: str, claims: dict[str, Any], ttl_s: int) -> str:
        """Any claims under an issuer of our own choice, for `ttl_s` seconds."""
        now_s = self._clock() // 1000
        payload = {"iss": issuer, "iat": now_s, "exp": now_s + ttl_s, **claims}
        return jwt.encode(payload, self._secret, algorithm=ALGORITHM)

    def open(self, issuer: str, token: str, *, expired_too: bool = False) -> dict[str, Any]:
        """The claims of `sign`, with `iat` and `exp`. Raises Unauthorised as `verify` does."""
        if not token:
            raise Unauthorised("token is missing: send `Authorization: Bearer <token>`")
        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthorised(f"token is malformed: longer than {TOKEN_CHARS_MAX} characters")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                # The library reads a clock of its own, so the times are checked below.
                options={
                    "require": ["iss", "iat", "exp"],
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
                issuer=issuer,
            )
        except jwt.InvalidSignatureError:
            raise Unauthorised("token is foreign: not signed with this system's secret") from None
        except jwt.InvalidIssuerError:
            raise Unauthorised(f"token is foreign: its issuer is not {issuer!r}") from None
        except jwt.InvalidAlgorithmError:
            raise Unauthorised(f"token is foreign: not signed by {ALGORITHM}") from None
        except jwt.PyJWTError as error:
            raise Unauthorised(f"token is malformed: {error}") from None
        now_s = self._clock() // 1000
        if not all(isinstance(claims[name], int) for name in ("iat", "exp")):
            raise Unauthorised("token is malformed: iat and exp are seconds since 1970")
        if claims["iat"] > now_s + LEEWAY_S:
            raise Unauthorised("token is malformed: it was issued in the future")
        if claims["exp"] <= now_s and not expired_too:
            raise Unauthorised(f"token is expired: since {now_s - claims['exp']} s")
        return claims


def mint(secret: str, **claims: Any) -> str:
    """`Tokens(secret).mint(...)`, for those who make one token only."""
    return Tokens(secret).mint(**claims)
