"""Addresses that a webhook may not go to, however they are written and whatever names say."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Any

import pytest

from api.store.webhooks import Endpoint
from api.webhooks import WebhookCaller, check_target, check_url
from api.webhooks.targets import Target, is_public
from geo.errors import InvalidValue

Make = Callable[..., Awaitable[Endpoint]]


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://127.1.2.3/",
        "https://127.1/",
        "https://0.0.0.0/",
        "https://0/",
        "https://2130706433/",
        "https://017700000001/",
        "https://0177.0.0.1/",
        "https://0x7f000001/",
        "https://0x7f.0.0.1/",
        "https://0X7F.0.0.1/",
        "https://127.0.0.1./",
        "https://10.0.0.8/",
        "https://172.16.0.1/",
        "https://192.168.1.1/",
        "https://100.64.0.1/",
        "https://100.100.100.200/",
        "https://169.254.169.254/latest/meta-data/",
        "https://168.63.129.16/",
        "https://192.0.0.192/",
        "https://192.0.2.1/",
        "https://198.18.0.1/",
        "https://224.0.0.1/",
        "https://240.0.0.1/",
        "https://255.255.255.255/",
        "https://[::]/",
        "https://[::1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[::ffff:93.184.216.34]/",
        "https://[::127.0.0.1]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[64:ff9b:1::1]/",
        "https://[2002:7f00:1::]/",
        "https://[2001:0:1::1]/",
        "https://[2001:db8::1]/",
        "https://[100::1]/",
        "https://[fc00::1]/",
        "https://[fd00:ec2::254]/",
        "https://[fe80::1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fec0::1]/",
        "https://[ff02::1]/",
        "https://localhost/",
        "https://intranet/",
        "http://hooks.example.com/",
        "ftp://hooks.example.com/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "//hooks.example.com/",
        "hooks.example.com",
        "https://user:password@hooks.example.com/",
        "https://hooks.example.com@127.0.0.1/",
        "https://127.0.0.1#@hooks.example.com/",
        "https://127.0.0.1\\@hooks.example.com/",
        "https://hooks.example.com\\.evil.example/",
        "https://hooks.example.com/#part",
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nHost: x",
        "https://hooks.example.com/\x00",
        " https://hooks.example.com/",
        "https://hooks.example.com\n",
        "https:///path",
        "https://",
        "https://ⓛocalhost/",
        "https://127。0。0。1/",
        "https://１２７.0.0.1/",
        "https://bücher.example/",
        "https://%31%32%37.0.0.1/",
        "https://hooks..example.com/",
        "https://-hooks.example.com/",
        "https://hooks_.example.com/",
        "https://[hooks.example.com]/",
        "https://hooks.example.com:0/",
        "https://hooks.example.com:22/",
        "https://hooks.example.com:25/",
        "https://hooks.example.com:65536/",
        "https://hooks.example.com:99999/",
        "https://hooks.example.com:+443/",
        "https://hooks.example.com:４４３/",
        "https://hooks.example.com/" + "x" * 2_000,
    ],
)
def test_refused(url: str) -> None:
    with pytest.raises(InvalidValue, match="url"):
        check_url(url, allow_private=False)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://hooks.example.com", Target("https", "hooks.example.com", 443)),
        ("https://Hooks.Example.com/a/b?c=d&e=%20", Target("https", "hooks.example.com", 443)),
        ("https://xn--bcher-kva.example:8443/", Target("https", "xn--bcher-kva.example", 8443)),
        ("https://93.184.216.34/", Target("https", "93.184.216.34", 443)),
        ("https://[2606:2800:220:1::1]:443/", Target("https", "2606:2800:220:1::1", 443)),
    ],
)
def test_taken(url: str, target: Target) -> None:
    assert check_url(url, allow_private=False) == target


def test_private_where_it_is_allowed() -> None:
    assert check_url("http://127.0.0.1:81/", allow_private=True).port == 81
    assert check_url("http://receiver/", allow_private=True).host == "receiver"
    for url in ("http://a:b@receiver/", "ftp://receiver/", "http://0x7f.1/", "http://receiver:0/"):
        with pytest.raises(InvalidValue):
            check_url(url, allow_private=True)


def test_an_error_does_not_show_the_rest_of_the_url() -> None:
    with pytest.raises(InvalidValue) as caught:
        check_url("http://hooks.example.com/services/hidden-token", allow_private=False)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "2400:3200::1"])
def test_public(address: str) -> None:
    assert is_public(ip_address(address))


class Names:
    """A resolver whose answers are the test's: the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self._real = socket.getaddrinfo

    def __call__(self, host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "hooks.example.com":
            return self._real(host, port, *args, **kwargs)
        self.asked += 1
        addresses = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [
            (socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port))
            for a in addresses
        ]


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["93.184.216.34", "10.0.0.1"],
        ["::1"],
        ["::ffff:169.254.169.254"],
        ["fe80::1%eth0"],
        ["64:ff9b::a00:1"],
    ],
)
async def test_names_of_private_addresses(
    monkeypatch: pytest.MonkeyPatch, addresses: list[str]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", Names(addresses))
    target = check_url("https://hooks.example.com/", allow_private=False)
    with pytest.raises(InvalidValue, match="public"):
        await check_target(target, allow_private=False)
    await check_target(target, allow_private=True)


async def test_a_name_that_nobody_knows() -> None:
    target = Target("https", "nobody.invalid", 443)
    with pytest.raises(InvalidValue, match="can be found"):
        await check_target(target, allow_private=False)


async def test_a_name_that_moves_after_it_was_registered(
    monkeypatch: pytest.MonkeyPatch, receiver: Any, endpoint: Make
) -> None:
    names = Names(["93.184.216.34"], ["127.0.0.1"])
    monkeypatch.setattr(socket, "getaddrinfo", names)
    url = f"https://hooks.example.com:{receiver.port}/hook"
    await check_target(check_url(url, allow_private=False), allow_private=False)
    made = await endpoint(url)
    async with WebhookCaller(allow_private=False) as caller:
        outcome = await caller.call(made, "1", b"{}")
    assert names.asked == 2
    assert not outcome.delivered
    assert outcome.error == "the address is refused: it is not public"
    assert receiver.connections == 0


async def test_the_address_that_was_checked_is_the_one_connected_to(
    monkeypatch: pytest.MonkeyPatch, receiver: Any, endpoint: Make
) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    monkeypatch.setattr(socket, "getaddrinfo", names)
    made = await endpoint(f"http://hooks.example.com:{receiver.port}/hook")
    async with WebhookCaller(allow_private=True) as caller:
        outcome = await caller.call(made, "1", b"{}")
    assert outcome.status == 200
    assert names.asked == 1
    assert receiver.got[0].headers["host"] == f"hooks.example.com:{receiver.port}"


async def test_plain_loopback_is_refused_at_the_connect(receiver: Any, endpoint: Make) -> None:
    made = await endpoint(receiver.url)
    async with WebhookCaller(allow_private=False) as caller:
        assert (await caller.call(made, "1", b"{}")).error
    assert receiver.connections == 0
