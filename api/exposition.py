"""The process's metrics as text, and who may read them; imports prometheus_client."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.metrics import modes

METRICS_PATH = "/metrics"


def may_read(address: str | None, readers: str) -> bool:
    """Whether this address is answered: `readers` is `private` (and loopback), `all` or `none`."""
    if readers != "private":
        return readers == "all"
    try:
        peer = ip_address(address or "")
    except ValueError:
        return False
    if isinstance(peer, IPv6Address) and peer.ipv4_mapped is not None:
        peer = peer.ipv4_mapped
    return peer.is_private or peer.is_loopback


def exposed() -> tuple[bytes, str]:
    """The text and its content type."""
    return generate_latest(), CONTENT_TYPE_LATEST


def degraded_now() -> list[str]:
    """The modes that are on, `mode` or `mode:city`, in order."""
    return sorted(f"{mode}:{city}" if city else str(mode) for mode, city in modes())
