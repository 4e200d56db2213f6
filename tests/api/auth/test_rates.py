"""Who asks too often is told when to come back; nobody else is refused, with Redis or without."""

from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis
from websockets.exceptions import InvalidStatus

from api.auth import Tokens
from api.clock import now_ms
from api.metrics import Mode, modes
from api.rates import Rates
from api.settings import RateSettings, Settings


async def statuses(house: Any, bearer: str | None, n: int, **how: Any) -> list[int]:
    return [(await house.ask(bearer, "GET", "/v1/events", **how)).status_code for _ in range(n)]


async def test_a_holder_has_his_limit(houses: Any) -> None:
    house = houses(rates=RateSettings(subject="4/minute"))
    erp = house.token("integrator", "erp")
    assert await statuses(house, erp, 4) == [200] * 4
    # Another token of his, and another address: it is he who is counted.
    response = await house.ask(
        house.token("integrator", "erp"), "GET", "/v1/events", peer="10.9.9.9"
    )
    assert response.status_code == 429
    assert int(response.headers["Retry-After"]) >= 1
    error = response.json()["error"]
    assert set(error) == {"code", "message", "field", "value", "expected"}
    assert (error["code"], "4/minute" in error["message"]) == ("rate_limited", True)
    for other in (house.token("operator", "erp"), house.token("integrator", "erp", tenant="else")):
        assert await statuses(house, other, 1) == [200]


async def test_processes_count_together(houses: Any) -> None:
    rates = RateSettings(subject="4/minute")
    one, two = houses(rates=rates), houses(rates=rates)
    erp = one.token("integrator", "erp")
    assert await statuses(one, erp, 3) + await statuses(two, erp, 3) == [200] * 4 + [429] * 2


async def test_an_address_with_good_tokens_has_a_limit_of_its_own(houses: Any) -> None:
    house = houses(rates=RateSettings(address="4/minute"))
    found = [(await statuses(house, house.token("integrator", f"e{i}"), 1))[0] for i in range(5)]
    assert found == [200] * 4 + [429]
    assert await statuses(house, house.token("integrator", "e0"), 1, peer="10.9.9.9") == [200]


async def test_strangers_are_counted_strictly_and_nobody_else_for_them(houses: Any) -> None:
    house = houses(rates=RateSettings(stranger="3/minute"))
    assert await statuses(house, "nonsense", 2) == [401, 401]
    assert (await house.ask(None, "GET", "/openapi.json")).status_code == 200
    for path in ("/v1/events", "/openapi.json", "/v1/nothing"):
        refused = await house.ask(None, "GET", path)
        assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
        assert refused.json()["error"]["code"] == "rate_limited"
    broken = await house.ask(None, "POST", "/v1/orders", None)
    assert broken.status_code == 429
    # Whoever watches the process, who has a good token, and who asks from elsewhere.
    assert (await house.ask(None, "GET", "/livez")).status_code == 200
    assert await statuses(house, house.token("integrator", "erp"), 2) == [200, 200]
    assert await statuses(house, "nonsense", 1, peer="10.9.9.9") == [401]
    # An API key is not looked up for an address that tries many.
    assert await statuses(house, await house.key(), 1) == [429]


async def test_a_token_of_ours_that_is_over_makes_no_stranger(houses: Any) -> None:
    house = houses(rates=RateSettings(stranger="2/minute"))
    at_ms = now_ms() - 3_600_000
    old = Tokens(house.settings.secret, lambda: at_ms).mint(sub="erp", role="integrator")
    assert await statuses(house, old, 4) == [401] * 4
    assert await statuses(house, "nonsense", 3) == [401, 401, 429]


async def test_without_redis_each_process_counts_for_itself(houses: Any) -> None:
    house = houses(rates=RateSettings(subject="4/minute"), redis_url="redis://127.0.0.1:1")
    erp = house.token("integrator", "erp")
    assert await statuses(house, erp, 5) == [200] * 4 + [429]
    assert (Mode.RATES_LOCAL, "") in modes()
    good = houses()
    assert await statuses(good, erp, 1) == [200]
    assert (Mode.RATES_LOCAL, "") not in modes()


async def test_sockets_from_an_address(houses: Any) -> None:
    house = houses()
    await house.open_gateway(rates=RateSettings(sockets="2/minute"))
    for _ in range(2):
        await house.socket(house.token("customer", "cora"))
    with pytest.raises(InvalidStatus) as refused:
        await house.socket()
    assert refused.value.response.status_code == 429
    assert int(refused.value.response.headers["Retry-After"]) >= 1


async def test_sockets_of_a_holder_and_of_strangers(houses: Any) -> None:
    house = houses()
    await house.open_gateway(rates=RateSettings(subject="2/minute", stranger="2/minute"))
    for token, good in ((house.token("customer", "cora"), None), ("x.y.z", 4401)):
        for _ in range(2):
            socket = await house.socket(token)
            answer = await socket.hear("welcome")
            assert answer.get("code") == good
        code, reason = await (await house.socket(token)).closed()
        assert (code, "again in" in reason) == (4429, True)
    other = await house.socket(house.token("customer", "carl"))
    assert (await other.hear("welcome"))["type"] == "welcome"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("198.51.100.1", ["203.0.113.9"], "198.51.100.1"),  # not a proxy of ours
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("10.1.2.3", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),  # what he said before is his word
        ("10.1.2.3", ["1.1.1.1", "203.0.113.9, 10.4.4.4"], "203.0.113.9"),
        ("10.1.2.3", ["nonsense"], "10.1.2.3"),
        ("::ffff:10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", [], "2001:db8:1:2::/64"),
        ("testclient", [], "unknown"),
        (None, ["203.0.113.9"], "unknown"),
    ],
)
def test_whose_address(peer: str | None, forwarded: list[str], address: str) -> None:
    environ = {
        "HEXRUN_POSTGRES_URL": "postgresql://x",
        "HEXRUN_REDIS_URL": "redis://x",
        "HEXRUN_SECRET": "kT3q9-wZ7uXy2-bL5nMv8-pR4sDf6-gH1jK",
        "HEXRUN_TRUSTED_PROXIES": "10.0.0.0/8, 2001:db8:ffff::/48",
    }
    rates = Settings.from_environment(environ).rates
    assert Rates(rates, Redis()).address(peer, forwarded) == address
