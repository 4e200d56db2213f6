"""Who asks: short-lived JSON Web Tokens (RFC 7519, HS256); may import PyJWT and the clock.

The secret is a text of one line or several: the first signs, the others still verify, until they
are taken out. A token names its line by the header `kid`.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import quote

import jwt

from api.clock import now_ms
from geo.errors import InvalidValue, Unauthorised

ALGORITHM = "HS256"
ISSUER = "hexrun"
TTL_S = 15 * 60
TTL_S_MAX = 31 * 86_400
TOKEN_CHARS_MAX = 4_096
CLAIM_CHARS_MAX = 128
ORDERS_MAX = 20
ORDER_CHARS_MAX = 64
# How far the clocks of two machines that share the secret may be apart.
LEEWAY_S = 10


class Role(StrEnum):
    CUSTOMER = "customer"
    MERCHANT = "merchant"
    RIDER = "rider"
    OPERATOR = "operator"
    INTEGRATOR = "integrator"


# Who may hold a token that is scoped to orders: those who may look at one.
SCOPED = (Role.CUSTOMER, Role.MERCHANT, Role.INTEGRATOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """A token's holder: `sub` is his id in his role; `iat` and `exp` are seconds since 1970.

    With `orders` the token is scoped: it looks at and watches these orders and does nothing else.
    `key` is the API key that this is, or that made the token; `kid` the line of the secret that
    signed it, `jti` the token's own id: "" where there is none.
    """

    sub: str
    role: Role
    tenant: str
    city: str
    iat: int
    exp: int
    orders: tuple[str, ...] = ()
    key: str = ""
    jti: str = field(default="", compare=False)
    kid: str = field(default="", compare=False)

    @property
    def holder(self) -> str:
        """Names the holder, quoted so that no two look the same."""
        return "/".join(quote(part, safe=":@") for part in (self.tenant, self.role, self.sub))

    @property
    def by_key(self) -> bool:
        """Whether this is an API key itself, not a token."""
        return bool(self.key) and not self.kid


def key_id(secret: str) -> str:
    """The `kid` of one line of the secret; tells nothing about it."""
    return hashlib.sha256(b"hexrun kid " + secret.encode()).hexdigest()[:8]


class Tokens:
    """Makes and checks the tokens of a secret. `clock` gives milliseconds since 1970."""

    def __init__(self, secret: str, clock: Callable[[], int] = now_ms) -> None:
        self._clock = clock
        self.renew(secret)

    def renew(self, secret: str) -> bool:
        """Take this secret from now on; whether anything is different."""
        lines = [line.strip() for line in secret.splitlines() if line.strip()]
        keys = {key_id(line): line for line in lines}
        changed = keys != getattr(self, "_keys", None)
        self._keys, self._newest = keys, key_id(lines[0])
        return changed

    def knows(self, kid: str) -> bool:
        """Whether that line of the secret is still there."""
        return kid in self._keys

    def mint(
        self,
        *,
        sub: str,
        role: Role | str,
        tenant: str = "default",
        city: str = "demo",
        ttl_s: int = TTL_S,
        orders: Sequence[str] = (),
        key: str = "",
    ) -> str:
        """A token for `sub` that lasts `ttl_s` seconds, for these orders only if there are any.

        Raises:
            InvalidValue: no such role, an empty or too long text, more than 31 days, more than 20
                orders, or orders for a role that cannot be scoped.
        """
        if role not in tuple(Role):
            raise InvalidValue("role", role, "one of " + ", ".join(Role))
        for name, value in (("sub", sub), ("tenant", tenant), ("city", city)):
            if not 1 <= len(value) <= CLAIM_CHARS_MAX:
                raise InvalidValue(name, value, f"1 to {CLAIM_CHARS_MAX} characters")
        if not 0 < ttl_s <= TTL_S_MAX:
            raise InvalidValue("ttl_s", ttl_s, f"1 to {TTL_S_MAX} seconds")
        if orders and not _is_scope(role, list(orders)):
            expected = f"at most {ORDERS_MAX} ids, for " + ", ".join(SCOPED)
            raise InvalidValue("orders", list(orders), expected)
        claims: dict[str, Any] = {"sub": sub, "role": str(role), "tenant": tenant, "city": city}
        if orders:
            claims["orders"] = list(orders)
        if key:
            claims["key"] = key
        return self.sign(ISSUER, claims | {"jti": secrets.token_hex(8)}, ttl_s)

    def verify(self, token: str) -> Claims:
        """The claims of a token of ours that is not over.

        Raises:
            Unauthorised: missing, malformed, expired, or signed by somebody else; says which.
        """
        claims = self.open(ISSUER, token)
        if claims["exp"] - claims["iat"] > TTL_S_MAX:
            # Revocations are kept no longer than a token of ours can last.
            raise Unauthorised(f"token is malformed: it lasts longer than {TTL_S_MAX} s")
        role = claims.get("role")
        texts = [claims.get(name) for name in ("sub", "tenant", "city")]
        if role not in tuple(Role) or not all(isinstance(t, str) and t for t in texts):
            raise Unauthorised("token is malformed: it lacks a claim, or its role is unknown")
        key, jti = claims.get("key", ""), claims.get("jti", "")
        if not (isinstance(key, str) and isinstance(jti, str)):
            raise Unauthorised("token is malformed: key and jti are texts")
        orders = claims.get("orders")
        # An empty scope must not turn into no scope.
        if orders is not None and not _is_scope(role, orders):
            expected = f"1 to {ORDERS_MAX} ids, for " + ", ".join(SCOPED)
            raise Unauthorised(f"token is malformed: orders are {expected}")
        return Claims(
            sub=claims["sub"],
            role=Role(role),
            tenant=claims["tenant"],
            city=claims["city"],
            iat=claims["iat"],
            exp=claims["exp"],
            orders=tuple(orders or ()),
            key=key,
            jti=jti,
            kid=claims["kid"],
        )

    def sign(self, issuer: str, claims: dict[str, Any], ttl_s: int) -> str:
        """Any claims under an issuer of our own choice, for `ttl_s` seconds."""
        now_s = self._clock() // 1000
        payload = {"iss": issuer, "iat": now_s, "exp": now_s + ttl_s, **claims}
        kid = self._newest
        return jwt.encode(payload, self._keys[kid], algorithm=ALGORITHM, headers={"kid": kid})

    def open(self, issuer: str, token: str, *, expired_too: bool = False) -> dict[str, Any]:
        """The claims of `sign`, with `iat`, `exp` and `kid`. Raises Unauthorised as `verify`."""
        if not token:
            raise Unauthorised("token is missing: send `Authorization: Bearer <token>`")
        if len(token) > TOKEN_CHARS_MAX:
            raise Unauthorised(f"token is malformed: longer than {TOKEN_CHARS_MAX} characters")
        try:
            kid, claims = self._decode(issuer, token)
        except jwt.InvalidSignatureError:
            raise Unauthorised("token is foreign: not signed with this system's secret") from None
        except jwt.InvalidIssuerError:
            raise Unauthorised(f"token is foreign: its issuer is not {issuer!r}") from None
        except jwt.InvalidAlgorithmError:
            raise Unauthorised(f"token is foreign: not signed by {ALGORITHM}") from None
        except jwt.PyJWTError as error:
            raise Unauthorised(f"token is malformed: {error}") from None
        self._check_times(claims, expired_too)
        return claims | {"kid": kid}

    def _check_times(self, claims: dict[str, Any], expired_too: bool) -> None:
        now_s = self._clock() // 1000
        if not all(isinstance(claims[name], int) for name in ("iat", "exp")):
            raise Unauthorised("token is malformed: iat and exp are seconds since 1970")
        if claims["iat"] > now_s + LEEWAY_S:
            raise Unauthorised("token is malformed: it was issued in the future")
        begins = claims.get("nbf", claims["iat"])
        if not isinstance(begins, int):
            raise Unauthorised("token is malformed: nbf is in seconds since 1970")
        if begins > now_s + LEEWAY_S:
            raise Unauthorised(f"token is not good yet: in {begins - now_s} s", genuine=True)
        if claims["exp"] <= now_s and not expired_too:
            over_s = now_s - claims["exp"]
            raise Unauthorised(f"token is expired: since {over_s} s", genuine=True)

    def _decode(self, issuer: str, token: str) -> tuple[str, dict[str, Any]]:
        """`kid` and claims. Without a `kid`, as an own backend may sign, each line is tried."""
        given = jwt.get_unverified_header(token).get("kid")
        if given is not None and given not in self._keys:
            raise jwt.InvalidSignatureError
        wrong: jwt.PyJWTError = jwt.InvalidSignatureError()
        for kid in self._keys if given is None else (given,):
            try:
                return kid, jwt.decode(
                    token,
                    self._keys[kid],
                    algorithms=[ALGORITHM],
                    # The library reads a clock of its own, so the caller checks the times.
                    options={
                        "require": ["iss", "iat", "exp"],
                        "verify_exp": False,
                        "verify_iat": False,
                        "verify_nbf": False,
                        "verify_jti": False,
                    },
                    issuer=issuer,
                )
            except jwt.InvalidSignatureError as error:
                wrong = error
        raise wrong


def _is_scope(role: Any, orders: Any) -> bool:
    return (
        role in SCOPED
        and isinstance(orders, list)
        and 1 <= len(orders) <= ORDERS_MAX
        and all(isinstance(o, str) and 1 <= len(o) <= ORDER_CHARS_MAX for o in orders)
    )


def mint(secret: str, **claims: Any) -> str:
    """`Tokens(secret).mint(...)`, for those who make one token only."""
    return Tokens(secret).mint(**claims)
