"""How a process logs: one JSON object a line on stderr, libraries included; may import structlog.

`HEXRUN_LOG_LEVEL` is debug, info, warning or error; `HEXRUN_LOG_FORMAT` is json, or text, which is
usual where stderr is a terminal. A line has `at` (UTC), `level`, `role`, `pid`, `event` and its
facts. Lines name orders, riders and customers by id only; what could be personal or secret is
hidden here once more, whoever logs it. A traceback shows no local variables.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from structlog.typing import Processor

from api.clock import now_ms
from geo.errors import InvalidValue

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS = ("json", "text")
HIDDEN = "(hidden)"
NEVER_LOGGED = frozenset(
    {"address", "authorization", "body", "contact", "note", "password", "phone", "secret", "token"}
)

Line = MutableMapping[str, Any]


def set_up_logs(role: str, environ: Mapping[str, str] = os.environ) -> None:
    """Log from now on as the environment says.

    Raises:
        InvalidValue: an unknown level or format; names the variable.
    """
    level = _choice(environ, "HEXRUN_LOG_LEVEL", tuple(LEVELS), "info")
    usual = "text" if sys.stderr.isatty() else "json"
    form = _choice(environ, "HEXRUN_LOG_FORMAT", FORMATS, usual)
    who = {"role": role, "pid": os.getpid()}
    first: list[Processor] = [
        structlog.stdlib.add_log_level,
        lambda _, __, line: {**_moment(), **who, **line},
        _hide,
    ]
    last: list[Processor] = (
        [structlog.processors.format_exc_info, _to_json] if form == "json" else [_as_text()]
    )
    structlog.configure(
        processors=[*first, *last],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=first,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    logging.basicConfig(handlers=[handler], level=LEVELS[level], force=True)
    logging.captureWarnings(True)
    # One line for every query or request would hide what matters.
    for name in ("sqlalchemy", "alembic", "httpx2", "httpcore2", "uvicorn.access"):
        logging.getLogger(name).setLevel(max(LEVELS[level], logging.WARNING))


def warn_on_screen() -> None:
    """For the commands that a person runs: warnings only, marked as ours, on stderr."""
    logging.basicConfig(format="hexrun: %(message)s", level=logging.WARNING)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, _hide, _as_text()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def _as_text() -> Processor:
    # Its usual tracebacks print every local variable.
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        pad_event_to=24,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _choice(environ: Mapping[str, str], name: str, words: tuple[str, ...], usual: str) -> str:
    given = environ.get(name) or usual
    if given not in words:
        raise InvalidValue(name, given, "one of " + ", ".join(words))
    return given


def _moment() -> dict[str, str]:
    at = datetime.fromtimestamp(now_ms() / 1000, UTC)
    return {"at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def _hide(_: object, __: str, line: Line) -> Line:
    for name in NEVER_LOGGED.intersection(line):
        line[name] = HIDDEN
    return line


def _to_json(_: object, __: str, line: Line) -> str:
    return msgspec.json.encode(line, enc_hook=str).decode()
