"""The status door of a role: `/livez`, `/readyz` and `/metrics` on loopback, on a port of its own.

May import the exposition, the settings, the clock and `alive`. The port is written to the data
folder's `run/<role>-<pid>.json`, and with those of all that live to `run/prometheus.json`, in the
form that Prometheus reads (`file_sd_configs`). Whoever opens or closes a door writes that list anew
under a lock, and leaves out whoever has died.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import structlog

from api.alive import is_alive
from api.clock import now_ms
from api.exposition import METRICS_PATH, degraded_now, exposed, may_read
from api.settings import Settings
from geo.errors import StartupError

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
PROMETHEUS_NAME = "prometheus.json"
HEAD_BYTES_MAX = 8_192
ASK_LIMIT_S = 5.0

_NAME = re.compile(r"[a-z]+-([0-9]+)\.json")
_JSON = "application/json"
_REASONS = {200: "OK", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}

Facts = Callable[[], Mapping[str, Any]]
Answer = tuple[int, bytes, str]


@asynccontextmanager
async def status_door(
    role: str, settings: Settings, stop: asyncio.Event, ready: asyncio.Event, facts: Facts = dict
) -> AsyncIterator[int]:
    """Answer on the port that it gives, until the block ends.

    `/readyz` is 200 between `ready` and `stop`, else 503; its body has the modes and `facts`.

    Raises:
        StartupError: the port of `HEXRUN_STATUS_PORT` cannot be had.
    """

    def answer(path: str) -> Answer:
        if path == "/livez":
            return 200, b'{"status":"ok"}', _JSON
        if path == "/readyz":
            leaving, is_ready = stop.is_set(), ready.is_set() and not stop.is_set()
            body = {"ready": is_ready, "leaving": leaving, "degraded": degraded_now(), **facts()}
            return 200 if is_ready else 503, json.dumps(body).encode(), _JSON
        if path != METRICS_PATH:
            return 404, b"", _JSON
        if not may_read(LOOPBACK, settings.metrics_for):
            return 403, b"", _JSON
        return 200, *exposed()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                writer.write(_response(await reader.readuntil(b"\r\n\r\n"), answer))
                await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
            pass  # not a request, or nobody who waits for its answer
        finally:
            writer.close()

    port = settings.status_port
    try:
        server = await asyncio.start_server(serve, LOOPBACK, port, limit=HEAD_BYTES_MAX)
    except OSError as error:
        where = f"HEXRUN_STATUS_PORT: cannot listen on {LOOPBACK}:{port}"
        raise StartupError(f"{where}: {error.strerror}; is it in use?") from None
    port = server.sockets[0].getsockname()[1]
    with _listed(settings.data / "run", role, port):
        try:
            yield port
        finally:
            server.close()


def _response(head: bytes, answer: Callable[[str], Answer]) -> bytes:
    method, _, rest = head.decode("latin-1").partition(" ")
    path = rest.partition(" ")[0].partition("?")[0]
    status, body, kind = answer(path) if method in ("GET", "HEAD") else (405, b"", _JSON)
    reason = _REASONS.get(status, "Service Unavailable")
    lines = (
        f"HTTP/1.1 {status} {reason}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    return "\r\n".join((*lines, "", "")).encode() + (b"" if method == "HEAD" else body)


# --- the files --------------------------------------------------------------------------------


@contextmanager
def _listed(run: Path, role: str, port: int) -> Iterator[None]:
    """The door's own file and its line in the list, for the time of the block."""
    own = run / f"{role}-{os.getpid()}.json"
    about = {"role": role, "pid": os.getpid(), "port": port, "since_ms": now_ms()}
    _write(run, own, about)
    try:
        yield
    finally:
        _write(run, own, None)


def _write(run: Path, own: Path, about: Mapping[str, Any] | None) -> None:
    try:
        run.mkdir(parents=True, exist_ok=True)
        with (run / "prometheus.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if about is None:
                own.unlink(missing_ok=True)
            else:
                own.write_text(json.dumps(about) + "\n")
            partial = run / f"{PROMETHEUS_NAME}.partial"
            partial.write_text(json.dumps(_targets(run), indent=1) + "\n")
            partial.replace(run / PROMETHEUS_NAME)
    except OSError as error:
        log.warning("status_not_listed", folder=str(run), error=str(error))


def _targets(run: Path) -> list[dict[str, Any]]:
    """What Prometheus is to scrape; removes the files of those who have died."""
    found = []
    for path in sorted(run.iterdir()):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        if not is_alive(int(match[1])):
            path.unlink(missing_ok=True)
            continue
        about = json.loads(path.read_text())
        labels = {"role": about["role"]}
        found.append({"targets": [f"{LOOPBACK}:{about['port']}"], "labels": labels})
    return found
