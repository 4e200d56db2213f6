"""Services are checked when described, and put in the order of their needs."""

from __future__ import annotations

import sys

import pytest

from api.supervisor import Service
from api.supervisor.runner import BackOff
from api.supervisor.service import in_order
from geo.errors import InvalidValue


def service(name: str, *after: str) -> Service:
    return Service(name, argv=("true",), after=after)


def test_each_comes_after_what_it_needs() -> None:
    given = [service("c", "a", "b"), service("b", "a"), service("d"), service("a")]
    assert [one.name for one in in_order(given)] == ["d", "a", "b", "c"]


@pytest.mark.parametrize(
    ("services", "message"),
    [
        ([service("a"), service("a")], "a name of its own"),
        ([service("a", "x")], "one of"),
        ([service("a", "b"), service("b", "a")], "no circle"),
    ],
)
def test_an_impossible_order_is_refused(services: list[Service], message: str) -> None:
    with pytest.raises(InvalidValue, match=message):
        in_order(services)


def test_a_service_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidValue, match="service name"):
        Service("../a", argv=("true",))
    with pytest.raises(InvalidValue, match="either argv or a server"):
        Service("a")


def test_a_role_is_a_command_of_hexrun() -> None:
    role = Service.role("gateway", "--port", "8001", name="gateway-2")
    assert role.name == "gateway-2"
    assert role.argv[:5] == (sys.executable, "-m", "api.cli", "role", "gateway")
    assert role.argv[5:] == ("--data", "{data}", "--port", "8001")
    assert role.after == ("postgres", "valkey")
    assert role.announces


def test_back_off_doubles_to_a_limit_and_starts_again_after_health() -> None:
    back_off = BackOff()
    waits = [back_off.after_run(0) for _ in range(8)]
    assert waits == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10])
    assert back_off.after_run(29.9) == 10
    assert back_off.after_run(30) == 0
    assert back_off.after_run(0) == pytest.approx(0.2)


def test_what_has_served_is_started_again_at_once_the_first_time() -> None:
    back_off = BackOff()
    assert [back_off.after_run(1) for _ in range(4)] == pytest.approx([0, 0.2, 0.4, 0.8])
