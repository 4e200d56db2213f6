"""Secrets of endpoints, the signature of a request, and its check; imports the standard library."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping, Sequence

from api.store.webhooks import Key

REPLAY_WINDOW_S = 300
VERSION = "v1"


def make_key() -> Key:
    """A fresh secret, 256 bits of chance, and the id that names it in public."""
    return Key(f"whk_{secrets.token_hex(8)}", f"whsec_{secrets.token_urlsafe(32)}")


def signature(secret: str, event_id: str, timestamp: str, body: bytes) -> str:
    """`v1=` and the HMAC-SHA256 (RFC 2104) over `id.timestamp.body` in hexadecimal."""
    content = f"{event_id}.{timestamp}.".encode() + body
    return f"{VERSION}={hmac.new(secret.encode(), content, hashlib.sha256).hexdigest()}"


def sign(keys: Sequence[Key], event_id: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers of a request; with two keys both sign, in the order of their ids."""
    timestamp = str(timestamp_s)
    signed = (signature(key.secret, event_id, timestamp, body) for key in keys)
    return {
        "Hexrun-Event-Id": event_id,
        "Hexrun-Timestamp": timestamp,
        "Hexrun-Key-Id": ",".join(key.id for key in keys),
        "Hexrun-Signature": ",".join(signed),
    }


def verify(secret: str, headers: Mapping[str, str], body: bytes, now_s: float) -> bool:
    """Whether we signed the request with `secret` and sent it within the last 300 s.

    `headers` by their names in lower case, `body` as it came over the wire.
    """
    timestamp = headers.get("hexrun-timestamp", "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs(now_s - int(timestamp)) > REPLAY_WINDOW_S:
        return False
    wanted = signature(secret, headers.get("hexrun-event-id", ""), timestamp, body).encode()
    given = headers.get("hexrun-signature", "").split(",")
    return any(hmac.compare_digest(wanted, one.strip().encode()) for one in given)
