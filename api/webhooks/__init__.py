"""Outgoing webhooks: a tenant's events to its endpoints, signed, at least once, in order.

| module | holds |
|---|---|
| `targets` | which addresses a webhook may go to |
| `network` | connections to checked addresses only |
| `calling` | one POST to a checked address, and what came of it |
| `signing` | secrets, signatures and the check that a receiver makes |
| `lanes` | which event may go now, without I/O |
| `delivering` | one endpoint's events, while this process has its lease |
| `sender` | the process: leases, heads of the feed, dead letters that are sent again |
| `counters` | what it counts |
"""

from api.webhooks.calling import Outcome, WebhookCaller, message
from api.webhooks.sender import run_sender
from api.webhooks.signing import make_key, sign, verify
from api.webhooks.targets import check_target, check_url

__all__ = [
    "Outcome",
    "WebhookCaller",
    "check_target",
    "check_url",
    "make_key",
    "message",
    "run_sender",
    "sign",
    "verify",
]
