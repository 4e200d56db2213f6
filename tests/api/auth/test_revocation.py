"""What was revoked, or lost its secret, is refused everywhere, and its sockets are closed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from api import guard as guarding
from api.auth import ISSUER, Tokens, key_id
from api.clock import now_ms
from api.guard import BLIND_MAX_S, Guard
from api.metrics import Mode, modes
from api.store import Store
from api.store import keys as key_store
from api.store.keys import KeyStore, Revocation
from api.store.quick import Quick
from geo.errors import Unauthorised, Unavailable

OLD, NEW = "the-old-line-of-the-secret-0123456789", "the-new-line-of-the-secret-0123456789"
DAY_MS = 86_400_000


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process reads ten times a second."""
    monkeypatch.setattr(guarding, "READ_S", 0.1)


async def welcomed(house: Any, token: str) -> Any:
    socket = await house.socket(token)
    assert (await socket.hear("welcome"))["type"] == "welcome"
    return socket


async def revoke(house: Any, by: str, **what: str) -> None:
    response = await house.ask(by, "POST", "/v1/tokens/revoke", what)
    assert response.status_code == 200, response.text


@pytest.mark.usefixtures("soon")
async def test_one_token_everybody_s_and_a_key_s_tokens(house: Any) -> None:
    """In the process that was asked, and in another one, the gateway."""
    await house.open_gateway()
    olga = house.token("operator", "olga")
    order = await house.order("cora")
    key = await house.key("integrator")
    form = {"role": "customer", "sub": "kim"}
    kim = (await house.ask(key, "POST", "/v1/tokens", form)).json()["token"]
    cora = [house.token("customer", "cora") for _ in range(3)]
    sockets = [await welcomed(house, token) for token in (*cora, kim)]

    await revoke(house, olga, jti=house.tokens.verify(cora[0]).jti)
    assert await sockets[0].closed() == (4401, "token is revoked")
    path = f"/v1/orders/{order.id}"
    assert [(await house.ask(t, "GET", path)).status_code for t in cora] == [401, 200, 200]
    await sockets[1].say("heartbeat")
    assert (await sockets[1].hear("ack"))["type"] == "ack"

    await revoke(house, key, role="customer", sub="cora")
    for socket in sockets[1:3]:
        assert (await socket.closed())[0] == 4401
    assert [(await house.ask(t, "GET", path)).status_code for t in cora] == [401, 401, 401]
    again = await house.socket(cora[1])
    assert await again.closed() == (4401, "token is revoked")

    await house.ask(olga, "DELETE", f"/v1/keys/{key.split('_')[1]}")
    assert await sockets[3].closed() == (4401, "token is revoked")
    assert (await house.ask(kim, "GET", path)).status_code == 401


async def test_who_comes_again_after_it_is_let_in(house: Any) -> None:
    at_ms = now_ms() - 15_000
    early = Tokens(house.settings.secret, lambda: at_ms - 5_000).mint(sub="cora", role="customer")
    for tenant, sub in (("default", "cora"), ("else", "carl")):
        one = Revocation(tenant, "demo", "subject", f"customer/{sub}", at_ms, at_ms + DAY_MS)
        await house.store.keys.revoke(one)
    guard = house.app.state.parts.guard
    await guard.read()
    with pytest.raises(Unauthorised, match="revoked"):
        guard.token(early)
    guard.token(house.token("customer", "cora"))
    guard.token(house.token("customer", "carl"))  # another tenant's carl is meant


async def test_the_list_ends_with_the_longest_token(house: Any) -> None:
    at_ms = now_ms()
    for value, until_ms in (("a", at_ms - 1), ("b", at_ms + DAY_MS)):
        one = Revocation("default", "demo", "token", value, at_ms - DAY_MS, until_ms)
        await house.store.keys.revoke(one)
    assert [r.value for _, r in await house.store.keys.revoked(0, at_ms, 9)] == ["b"]


async def test_a_clock_that_is_ahead_saves_no_token(house: Any) -> None:
    ahead_ms = now_ms() + 8_000
    early = Tokens(house.settings.secret, lambda: ahead_ms).mint(sub="cora", role="customer")
    await revoke(house, house.token("operator", "olga"), role="customer", sub="cora")
    assert (await house.ask(early, "GET", "/v1/orders/none")).status_code == 401


async def test_an_integrator_ends_no_token_of_an_operator_or_of_another_tenant(house: Any) -> None:
    olga, carl, else_ = (
        house.token("operator", "olga"),
        house.token("customer", "carl"),
        house.token("customer", "carl", tenant="else"),
    )
    shop = house.token("integrator", "shop")
    for token in (olga, carl, else_):
        await revoke(house, shop, jti=house.tokens.verify(token).jti)
    assert (await house.ask(olga, "GET", "/v1/keys")).status_code == 200
    assert (await house.ask(carl, "GET", "/v1/orders/none")).status_code == 401
    assert (await house.ask(else_, "GET", "/v1/orders/none")).status_code == 404
    await revoke(house, house.token("operator", "otto"), jti=house.tokens.verify(olga).jti)
    assert (await house.ask(olga, "GET", "/v1/keys")).status_code == 401


async def test_the_same_again_is_one_entry_whose_instant_rises(house: Any) -> None:
    at_ms = now_ms()
    keys = house.store.keys
    for later in (0, 7, 3):
        one = Revocation("t", "demo", "subject", "rider/rob", at_ms + later, at_ms + DAY_MS + later)
        await keys.revoke(one)
    ((_, found),) = await keys.revoked(0, at_ms, 9)
    assert (found.at_ms, found.until_ms) == (at_ms + 7, at_ms + DAY_MS + 7)


async def test_a_tenant_has_so_many_and_no_more(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_store, "REVOCATIONS_MAX", 3)
    olga, elsa = house.token("operator", "olga"), house.token("operator", "elsa", tenant="else")
    for n in range(3):
        await revoke(house, olga, role="rider", sub=f"r{n}")
    refused = await house.ask(olga, "POST", "/v1/tokens/revoke", {"jti": "one-more"})
    assert refused.status_code == 409
    assert "delete the API key" in refused.text
    await revoke(house, olga, role="rider", sub="r1")  # again
    await revoke(house, elsa, role="rider", sub="r1")
    key = (await house.key("integrator")).split("_")[1]
    assert (await house.ask(olga, "DELETE", f"/v1/keys/{key}")).status_code == 204
    values = [r.value for _, r in await house.store.keys.revoked(0, now_ms(), 99)]
    assert "one-more" not in values
    assert key in values


async def test_what_was_read_is_not_read_again(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page at first, from where a reading was cut short, then what is new."""
    monkeypatch.setattr(guarding, "PAGE", 3)
    keys, guard = house.store.keys, Guard(house.tokens, house.store)
    tokens = [house.token("rider", f"r{n}") for n in range(8)]

    async def end(n: int) -> None:
        at_ms = now_ms()
        await keys.revoke(
            Revocation("default", "demo", "subject", f"rider/r{n}", at_ms, at_ms + DAY_MS)
        )

    def ended() -> list[int]:
        known = {who[3] for who in guard._over}
        return [n for n in range(8) if f"rider/r{n}" in known]

    read, pages = KeyStore.revoked, []

    async def counted(self: KeyStore, *args: Any) -> Any:
        if len(pages) == 1:
            pages.append(0)
            raise Unavailable("PostgreSQL: away")
        found = await read(self, *args)
        pages.append(len(found))
        return found

    monkeypatch.setattr(KeyStore, "revoked", counted)
    for n in range(7):
        await end(n)
    assert await guard.look()
    assert ended() == [0, 1, 2]
    assert await guard.look()
    assert (pages, ended()) == ([3, 0, 3, 1], list(range(7)))
    assert not await guard.look()
    await end(7)
    await end(0)
    assert await guard.look()
    assert pages[4:] == [0, 2]
    for token in tokens:
        with pytest.raises(Unauthorised, match="revoked"):
            guard.token(token)


async def test_none_shows_up_behind_a_reader(house: Any, store: Store) -> None:
    """Two that revoke at once: the second one's position is later, and waits for the first."""
    at_ms = now_ms()
    one, other = (
        Revocation("default", "demo", "token", value, at_ms, at_ms + DAY_MS) for value in "ab"
    )
    async with store._engine.begin() as slow:
        await key_store._put(slow, one)
        second = asyncio.create_task(store.keys.revoke(other))
        await asyncio.sleep(0.2)
        assert await store.keys.revoked(0, at_ms, 9) == []
    await second
    assert [r.value for _, r in await store.keys.revoked(0, at_ms, 9)] == ["a", "b"]


async def test_without_the_database_nothing_is_good_for_ever(house: Any) -> None:
    class Clock:
        ms = now_ms()

        def __call__(self) -> int:
            return self.ms

    clock = Clock()
    tokens = Tokens(house.settings.secret, clock)
    guard = Guard(tokens, house.store, clock=clock)
    one = Revocation("default", "demo", "subject", "rider/rob", clock.ms, clock.ms + DAY_MS)
    await house.store.keys.revoke(one)
    await guard.read()
    rob, rita = [tokens.mint(sub=sub, role="rider", ttl_s=86_400) for sub in ("rob", "rita")]
    clock.ms += BLIND_MAX_S * 1000 - 1
    guard.token(rita)
    clock.ms += 2_001
    with pytest.raises(Unavailable, match="fresh one"):
        guard.token(rita)
    guard.token(tokens.mint(sub="rita", role="rider"))
    with pytest.raises(Unauthorised, match="revoked"):
        guard.token(rob)
    await guard.read()
    guard.token(rita)


@pytest.mark.usefixtures("soon")
async def test_a_gateway_that_cannot_read_says_so_and_closes_old_tokens(
    house: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.open_gateway()
    at_ms = now_ms() - 600_000
    old = Tokens(house.settings.secret, lambda: at_ms).mint(sub="c", role="customer", ttl_s=3_600)
    stays, goes = await welcomed(house, house.token("customer", "c")), await welcomed(house, old)

    async def away(*_: Any) -> None:
        raise Unavailable("PostgreSQL: away")

    with monkeypatch.context() as broken:
        broken.setattr(guarding, "BLIND_MAX_S", 60)
        broken.setattr(KeyStore, "revoked", away)
        await _until(lambda: (Mode.REVOCATIONS_STALE, "") in modes())
        broken.setattr(guarding, "BLIND_MAX_S", 0.3)
        assert (await goes.closed())[0] == 1011
    await _until(lambda: (Mode.REVOCATIONS_STALE, "") not in modes())
    again = await welcomed(house, house.token("customer", "c"))
    await again.say("heartbeat")
    assert (await again.hear("ack"))["type"] == "ack"
    await stays.socket.close()


async def test_a_dead_database_is_told_and_asked_again(house: Any) -> None:
    url = make_url("postgresql+asyncpg://nobody@127.0.0.1:1/none")
    store = Store(create_async_engine(url), url, "none", await Quick.open(url))
    asked = asyncio.Event()
    running = asyncio.create_task(Guard(house.tokens, store).run(asked.set))
    async with asyncio.timeout(10):
        await asked.wait()
    assert (Mode.REVOCATIONS_STALE, "") in modes()
    running.cancel()
    await asyncio.wait({running})
    good = asyncio.create_task(Guard(house.tokens, house.store).run())
    await _until(lambda: (Mode.REVOCATIONS_STALE, "") not in modes())
    good.cancel()
    await asyncio.wait({good})
    await store.close()


@pytest.mark.usefixtures("soon")
async def test_an_error_of_another_kind_does_not_end_the_reading(house: Any) -> None:
    """As when the table is of another release for a while."""
    running = asyncio.create_task(Guard(house.tokens, house.store).run())
    try:
        async with house.store._engine.begin() as connection:
            await connection.execute(text("ALTER TABLE revocations RENAME TO renamed"))
        try:
            await _until(lambda: running.done() or (Mode.REVOCATIONS_STALE, "") in modes())
            assert not running.done()
        finally:
            async with house.store._engine.begin() as connection:
                await connection.execute(text("ALTER TABLE renamed RENAME TO revocations"))
        await _until(lambda: (Mode.REVOCATIONS_STALE, "") not in modes())
    finally:
        running.cancel()
        await asyncio.wait({running})


async def _until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.02)


# --- rotation of the secret --------------------------------------------------------------------


def test_the_first_line_signs_and_all_verify() -> None:
    old, both, new = Tokens(OLD), Tokens(f"{NEW}\n{OLD}\n"), Tokens(NEW)
    early, late = old.mint(sub="a", role="rider"), both.mint(sub="a", role="rider")
    assert jwt.get_unverified_header(early)["kid"] == key_id(OLD)
    assert jwt.get_unverified_header(late)["kid"] == key_id(NEW)
    assert OLD[:8] not in key_id(OLD)
    assert both.verify(early).kid == key_id(OLD)
    assert new.verify(late) == both.verify(late)
    for tokens, token in ((new, early), (old, late)):
        with pytest.raises(Unauthorised, match="foreign"):
            tokens.verify(token)


def test_a_token_without_a_kid_may_be_of_any_line() -> None:
    now_s = now_ms() // 1000
    claims = {"iss": ISSUER, "sub": "a", "role": "rider", "tenant": "t", "city": "c",
              "iat": now_s, "exp": now_s + 60}  # fmt: skip
    token = jwt.encode(claims, OLD, "HS256")
    assert Tokens(f"{NEW}\n{OLD}").verify(token).kid == key_id(OLD)
    with pytest.raises(Unauthorised, match="foreign"):
        Tokens(NEW).verify(token)


async def test_a_secret_changes_under_open_sockets(
    houses: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by SIGHUP; nobody is closed before his line is taken out."""
    monkeypatch.setattr(guarding, "READ_S", 600.0)
    house = houses(secret=OLD)
    house.tokens = Tokens(OLD)
    file = house.settings.secret_file
    file.write_text(OLD + "\n")
    await house.open_gateway()
    early = house.token("customer", "cora")
    first = await welcomed(house, early)

    async def hang_up(text: str) -> None:
        file.write_text(text)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0)

    await hang_up("broken")  # too short: changes nothing
    await welcomed(house, house.token("customer", "cora"))
    await hang_up(f"{NEW}\n{OLD}\n")
    late = Tokens(NEW).mint(sub="cora", role="customer")
    async with asyncio.timeout(10):
        while (await (await house.socket(late)).hear("welcome"))["type"] != "welcome":
            await asyncio.sleep(0.05)
    second = await welcomed(house, late)
    await first.say("heartbeat")
    assert (await first.hear("ack"))["type"] == "ack"
    await hang_up(NEW + "\n")
    code, reason = await first.closed()
    assert (code, "taken out" in reason) == (4401, True)
    await second.say("heartbeat")
    assert (await second.hear("ack"))["type"] == "ack"
    assert (await (await house.socket(early)).closed())[0] == 4401


@pytest.mark.parametrize(
    ("secret", "mode"), [("a" * 40, 0o600), ("kT3q9-wZ7uXy2-bL5nMv8-pR4sDf6-gH1jK", 0o644)]
)
async def test_a_secret_that_is_weak_or_open_is_not_taken(
    houses: Any, capfd: pytest.CaptureFixture[str], secret: str, mode: int
) -> None:
    """Where others can connect; elsewhere it is, as at the start."""
    for host, taken in (("0.0.0.0", False), ("127.0.0.1", True)):
        house = houses(host=host)
        house.settings.secret_file.write_text(secret + "\n")
        house.settings.secret_file.chmod(mode)
        guard = house.app.state.parts.guard
        await guard.read()
        assert guard.tokens.knows(key_id(secret)) is taken
        assert guard.tokens.knows(key_id(house.settings.secret)) is not taken
        assert ("secret_refused" in "".join(capfd.readouterr())) is not taken


async def test_http_reads_the_file_again(houses: Any) -> None:
    house = houses(secret=OLD)
    house.settings.secret_file.write_text(f"{NEW}\n{OLD}\n")
    order = await house.order("cora")
    early, late = (Tokens(s).mint(sub="cora", role="customer") for s in (OLD, NEW))
    path = f"/v1/orders/{order.id}"
    assert (await house.ask(late, "GET", path)).status_code == 401
    await house.app.state.parts.guard.read()
    assert (await house.ask(early, "GET", path)).status_code == 200
    assert (await house.ask(late, "GET", path)).status_code == 200
