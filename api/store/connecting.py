"""How PostgreSQL is connected to, so that a connection that has gone silent is given up in seconds.

A machine, a firewall or a network that vanishes says no goodbye: without limits both ends would
wait for hours, this one with requests, the server with locks. Imports nothing.
"""

from __future__ import annotations

CONNECT_LIMIT_S = 5.0
ANSWER_LIMIT_S = 5.0
"""For one statement, locks included: what holds locks longer is frozen itself."""

SESSION = {
    "tcp_keepalives_idle": "3",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "2",
    "tcp_user_timeout": "7s",
    "idle_in_transaction_session_timeout": "10s",
}
"""What the server is told of the other end; nothing on a Unix socket, where it sees who dies."""
