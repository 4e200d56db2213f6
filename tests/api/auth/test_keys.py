"""API keys: shown once, used on HTTP, exchanged for tokens, audited, two side by side."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

import asyncpg
import pytest

from api.clock import now_ms
from api.store.keys import USED_STEP_MS

KEY = re.compile(r"hxk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")
DAY_S = 86_400


async def made(house: Any, **changes: Any) -> dict[str, Any]:
    body = {"role": "integrator", "sub": "erp"} | changes
    response = await house.ask(house.token("operator", "olga"), "POST", "/v1/keys", body)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_key_is_shown_once_and_kept_as_a_hash(house: Any, auth_database: str) -> None:
    key = await made(house, label="till 3")
    assert KEY.fullmatch(key["key"])
    listed = (await house.ask(house.token("operator"), "GET", "/v1/keys")).json()["keys"]
    assert listed == [{name: key[name] for name in key if name != "key"}]
    assert (listed[0]["label"], listed[0]["tenant"], listed[0]["city"]) == (
        "till 3", "default", "demo",
    )  # fmt: skip
    secret = key["key"].split("_", 2)[2]
    connection = await asyncpg.connect(auth_database.replace("+asyncpg", "", 1))
    for table in ("keys", "audit", "revocations"):
        rows = await connection.fetch(f"SELECT t::text FROM {table} AS t")
        assert all(secret not in row[0] for row in rows)
    await connection.close()


async def test_a_retry_is_told_the_same_key_until_it_is_deleted(
    house: Any, auth_database: str
) -> None:
    olga, body = house.token("operator", "olga"), {"role": "integrator", "sub": "erp"}

    async def ask() -> Any:
        return await house.ask(olga, "POST", "/v1/keys", body, **{"Idempotency-Key": "k1"})

    first, again = await ask(), await ask()
    assert (first.status_code, again.json()) == (201, first.json())
    key = first.json()
    assert KEY.fullmatch(key["key"])
    assert (await house.ask(key["key"], "GET", "/v1/events")).status_code == 200
    connection = await asyncpg.connect(auth_database.replace("+asyncpg", "", 1))
    (kept,) = await connection.fetch("SELECT t::text FROM idempotency AS t")
    await connection.close()
    assert key["id"] in kept[0]
    assert key["key"].split("_", 2)[2] not in kept[0]
    await house.ask(olga, "DELETE", f"/v1/keys/{key['id']}")
    assert (await ask()).status_code == 409
    assert (await house.ask(olga, "GET", "/v1/keys")).json()["keys"] == []


async def test_a_key_is_a_bearer_and_its_use_is_noted_to_the_hour(house: Any) -> None:
    key = (await made(house))["key"]
    order = await house.order("cora")
    before_ms = now_ms()
    assert (await house.ask(key, "GET", f"/v1/orders/{order.id}")).status_code == 200
    assert (await house.ask(key, "GET", "/v1/keys")).status_code == 403
    (found,) = await house.store.keys.of_tenant("default", "demo")
    assert found.last_used_ms % USED_STEP_MS == 0
    assert before_ms - USED_STEP_MS <= found.last_used_ms <= now_ms()


async def test_two_keys_live_side_by_side(house: Any) -> None:
    old, new = await made(house), await made(house)
    for key in (old, new):
        assert (await house.ask(key["key"], "GET", "/v1/events")).status_code == 200
    path = f"/v1/keys/{old['id']}"
    assert (await house.ask(house.token("operator"), "DELETE", path)).status_code == 204
    assert (await house.ask(old["key"], "GET", "/v1/events")).status_code == 401
    assert (await house.ask(new["key"], "GET", "/v1/events")).status_code == 200
    assert (await house.ask(house.token("operator"), "DELETE", path)).status_code == 404


async def test_a_key_has_its_end(house: Any) -> None:
    at_ms = now_ms()
    body = {"role": "integrator", "sub": "erp", "expires_at_ms": at_ms - 1}
    refused = await house.ask(house.token("operator"), "POST", "/v1/keys", body)
    assert refused.json()["error"]["field"] == "expires_at_ms"
    key = await made(house, expires_at_ms=at_ms + 60_000)
    form = {"role": "customer", "sub": "cora", "ttl_s": DAY_S}
    token = (await house.ask(key["key"], "POST", "/v1/tokens", form)).json()
    assert token["expires_at_ms"] <= at_ms + 60_000


@pytest.mark.parametrize("role", ["customer", "merchant", "rider", "integrator"])
async def test_a_key_makes_tokens_of_its_own_tenant(house: Any, role: str) -> None:
    key = await house.key(tenant="brand")
    form = {"role": role, "sub": "x1", "ttl_s": 600}
    response = await house.ask(key, "POST", "/v1/tokens", form)
    assert response.status_code == 201
    claims = house.tokens.verify(response.json()["token"])
    assert (claims.role, claims.sub, claims.tenant, claims.city) == (role, "x1", "brand", "demo")
    assert claims.exp - claims.iat == 600
    assert (claims.jti, claims.exp * 1000) == (
        response.json()["jti"], response.json()["expires_at_ms"],
    )  # fmt: skip


async def test_what_a_key_does_not_make(house: Any) -> None:
    shop, till, boss = [await house.key(role) for role in ("integrator", "merchant", "operator")]
    form = {"role": "customer", "sub": "cora"}
    token = (await house.ask(shop, "POST", "/v1/tokens", form | {"role": "integrator"})).json()
    for bearer, changes, status, word in (
        (shop, {"role": "operator"}, 403, "operators"),
        (boss, {"role": "operator"}, 201, ""),
        (till, {}, 403, "merchant"),
        (token["token"], {}, 403, "not with another token"),
        (shop, {"ttl_s": DAY_S + 1}, 422, "ttl_s"),
        (shop, {"tenant": "else"}, 422, "tenant"),
        (shop, {"city": "bj"}, 422, "city"),
        (shop, {"role": "rider", "orders": ["o1"]}, 422, "orders"),
        (shop, {"orders": [f"o{i}" for i in range(21)]}, 422, "orders"),
    ):
        response = await house.ask(bearer, "POST", "/v1/tokens", form | changes)
        assert response.status_code == status, response.text
        assert word in response.text


async def test_a_link_to_one_order(house: Any) -> None:
    order, other = await house.order("cora"), await house.order("cora")
    form = {"role": "customer", "sub": "link", "orders": [order.id]}
    token = (await house.ask(await house.key(), "POST", "/v1/tokens", form)).json()["token"]
    path = f"/v1/orders/{order.id}"
    assert (await house.ask(token, "GET", path)).status_code == 200
    assert (await house.ask(token, "POST", f"{path}/cancel", {})).status_code == 403
    assert (await house.ask(token, "GET", f"/v1/orders/{other.id}")).status_code == 403
    assert (await house.ask(token, "POST", "/v1/quotes", {"stops": []})).status_code in (403, 422)


async def test_an_api_key_opens_no_socket(house: Any) -> None:
    await house.open_gateway()
    socket = await house.socket(await house.key())
    code, reason = await socket.closed()
    assert code == 4401
    assert "exchange it" in reason


async def test_what_operators_and_keys_do_is_written_down(house: Any, auth_database: str) -> None:
    olga = house.token("operator", "olga")
    key = await made(house)
    order = await house.order("cora")
    await house.ask(key["key"], "POST", f"/v1/orders/{order.id}/cancel", {}, peer="198.51.100.7")
    await house.ask(key["key"], "DELETE", f"/v1/keys/{key['id']}", peer="2001:db8:1:2:3::4")
    await house.ask(house.token("customer", "cora"), "POST", f"/v1/orders/{order.id}/cancel", {})
    await house.ask(olga, "POST", "/v1/riders", {"id": "r9"})
    whole = (await house.ask(olga, "GET", "/v1/audit")).json()
    deeds = [(d["role"], d["sub"], d["action"], d["object"], d["address"], d["outcome"])
             for d in whole["deeds"]]  # fmt: skip
    assert deeds == [
        ("operator", "olga", "POST /v1/keys", key["id"], "127.0.0.1", 201),
        ("integrator", "erp", "POST /v1/orders/{order_id}/cancel", order.id, "198.51.100.7", 200),
        ("integrator", "erp", "DELETE /v1/keys/{key_id}", key["id"], "2001:db8:1:2::/64", 403),
        ("operator", "olga", "POST /v1/riders", "r9", "127.0.0.1", 200),
    ]
    assert [d["key_id"] for d in whole["deeds"]] == ["", key["id"], key["id"], ""]
    page = (await house.ask(olga, "GET", "/v1/audit?limit=3")).json()
    assert (len(page["deeds"]), page["more"]) == (3, True)
    rest = (await house.ask(olga, "GET", f"/v1/audit?after={page['next_after']}")).json()
    assert rest["deeds"] == whole["deeds"][3:]
    assert not rest["more"]
    elsewhere = await house.ask(house.token("operator", tenant="else"), "GET", "/v1/audit")
    assert elsewhere.json()["deeds"] == []
    connection = await asyncpg.connect(auth_database.replace("+asyncpg", "", 1))
    for statement in ("UPDATE audit SET outcome = 0", "DELETE FROM audit", "TRUNCATE audit"):
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await connection.execute(statement)
    await connection.close()


async def test_the_first_key_comes_from_the_command_line(house: Any) -> None:
    environ = os.environ | {
        "HEXRUN_POSTGRES_URL": house.settings.postgres_url,
        "HEXRUN_CITY": "demo:31.2304,121.4737",
    }
    line = [sys.executable, "-m", "api.cli", "key", "create", "--role", "operator", "--sub", "me"]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*line, *more], env=environ, capture_output=True, text=True, check=False
        )

    done = run("--data", str(house.folder), "--tenant", "brand", "--days", "30")
    key = done.stdout.strip()
    assert KEY.fullmatch(key), done.stderr
    (found,) = (await house.ask(key, "GET", "/v1/keys")).json()["keys"]
    assert (found["sub"], found["tenant"], found["role"]) == ("me", "brand", "operator")
    assert found["expires_at_ms"] - found["created_at_ms"] == 30 * DAY_S * 1000
    (deed,) = (await house.ask(key, "GET", "/v1/audit")).json()["deeds"]
    assert (deed["action"], deed["object"]) == ("hexrun key create", found["id"])
    environ.pop("HEXRUN_POSTGRES_URL")
    none = run("--data", str(house.folder / "nowhere"))
    assert (none.returncode, "no PostgreSQL answers there" in none.stderr) == (2, True)


async def test_a_path_that_no_database_holds_is_audited(house: Any) -> None:
    for odd, kept in (("%00", "\\0"), ("x" * 5_000, "x" * 200)):
        answer = await house.ask(house.token("operator"), "POST", f"/v1/orders/{odd}/cancel", {})
        assert answer.status_code in (404, 422), answer.text
        deeds = (await house.ask(house.token("operator"), "GET", "/v1/audit")).json()["deeds"]
        assert (deeds[-1]["object"], deeds[-1]["outcome"]) == (kept, answer.status_code)


async def test_a_change_that_ends_in_our_own_error_is_audited(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it did before the error is done."""
    olga = house.token("operator", "olga")

    async def broken(*_: Any, **__: Any) -> None:
        raise KeyError("nobody's fault but ours")

    with monkeypatch.context() as patch:
        patch.setattr("api.store.keys.KeyStore.one", broken)
        answer = await house.ask(olga, "DELETE", "/v1/keys/0123456789ab")
    assert answer.status_code == 500
    deeds = (await house.ask(olga, "GET", "/v1/audit")).json()["deeds"]
    assert [(d["action"], d["object"], d["outcome"]) for d in deeds] == [
        ("DELETE /v1/keys/{key_id}", "0123456789ab", 500)
    ]
