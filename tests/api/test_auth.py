"""Tokens are taken from this system only, whole and in time, and say why they are not."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest

from api.auth import ISSUER, LEEWAY_S, TTL_S_MAX, Claims, Role, Tokens, mint
from geo.errors import InvalidValue, Unauthorised

SECRET = "s" * 40
NOW_S = 1_790_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> int:
        return self.now_s * 1000 + 999


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens(SECRET, clock)


def forged(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    claims = {
        "iss": ISSUER,
        "sub": "anna",
        "role": "customer",
        "tenant": "default",
        "city": "demo",
        "iat": NOW_S,
        "exp": NOW_S + 60,
    } | changes
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, algorithm)


@pytest.mark.parametrize("role", list(Role))
def test_what_is_minted_is_verified(tokens: Tokens, role: Role) -> None:
    token = tokens.mint(sub="anna", role=role, tenant="shop", city="berlin")
    assert tokens.verify(token) == Claims(
        sub="anna", role=role, tenant="shop", city="berlin", iat=NOW_S, exp=NOW_S + 900
    )


def test_a_token_ends(tokens: Tokens, clock: Clock) -> None:
    token = tokens.mint(sub="anna", role="customer", ttl_s=60)
    clock.now_s += 59
    tokens.verify(token)
    clock.now_s += 1
    with pytest.raises(Unauthorised, match="expired: since 0 s"):
        tokens.verify(token)


def _without_signature() -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps({"iss": ISSUER, "sub": "root"}).encode())
    return f"{head.decode()}.{body.rstrip(b'=').decode()}."


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("", "missing"),
        ("nonsense", "malformed"),
        ("a.b.c", "malformed"),
        ("x" * 5_000, "malformed: longer"),
        (_without_signature(), "foreign"),
        (forged("t" * 40), "foreign: not signed"),
        (forged("s" * 64, "HS512"), "foreign"),
        (forged(iss="elsewhere"), "foreign: its issuer"),
        (forged(iss="hexrun-price"), "foreign: its issuer"),
        (forged(exp=None), "malformed"),
        (forged(sub=None), "malformed"),
        (forged(role="king"), "malformed"),
        (forged(role=None), "malformed"),
        (forged(tenant=""), "malformed"),
        (forged(city=7), "malformed"),
        (forged(exp="soon"), "malformed"),
        (forged(iat=NOW_S + LEEWAY_S + 1), "issued in the future"),
        (forged(nbf=NOW_S + LEEWAY_S + 1), "not good yet: in 11 s"),
        (forged(nbf="soon"), "malformed: nbf"),
        (forged(exp=NOW_S), "expired"),
        (forged(exp=NOW_S + TTL_S_MAX + 1), "malformed: it lasts longer"),
        (forged(iat=NOW_S - TTL_S_MAX, exp=NOW_S + 60), "malformed: it lasts longer"),
    ],
)
def test_what_is_refused(tokens: Tokens, token: str, reason: str) -> None:
    with pytest.raises(Unauthorised, match=f"token is {reason}|{reason}"):
        tokens.verify(token)


def test_a_changed_token_is_refused(tokens: Tokens) -> None:
    head, body, signature = tokens.mint(sub="anna", role="customer").split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["role"] = "operator"
    other = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthorised, match="foreign"):
        tokens.verify(f"{head}.{other}.{signature}")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"role": "king"}, "role"),
        ({"sub": ""}, "sub"),
        ({"sub": "x" * 200}, "sub"),
        ({"city": ""}, "city"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"ttl_s": 10**9}, "ttl_s"),
    ],
)
def test_what_is_not_minted(tokens: Tokens, changes: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue, match=field):
        tokens.mint(**({"sub": "anna", "role": "customer"} | changes))


def test_minting_once() -> None:
    assert Tokens(SECRET).verify(mint(SECRET, sub="rita", role=Role.RIDER)).sub == "rita"
