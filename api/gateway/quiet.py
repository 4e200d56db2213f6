"""What the websocket library may log: never a request line or a header, which may hold a token.

Imports logging only.
"""

from __future__ import annotations

import logging

NAME = "hexrun.gateway.websockets"


def quiet_logger() -> logging.Logger:
    """A logger without the library's dumps of requests and frames, whatever the root's level."""
    logger = logging.getLogger(NAME)
    # At DEBUG the library writes down every request and frame.
    logger.setLevel(logging.INFO)
    if not logger.filters:
        logger.addFilter(_without_request)
    return logger


def _without_request(record: logging.LogRecord) -> bool:
    """A request that cannot be read is quoted in the error's text: its kind is enough."""
    if record.exc_info and record.getMessage() in ("opening handshake failed", "parser failed"):
        kind = record.exc_info[0]
        record.msg, record.args = "%s: %s", (record.msg, kind.__name__ if kind else "")
        record.exc_info = record.exc_text = None
    return True
