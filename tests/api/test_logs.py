"""Every line of a process is one JSON object, the libraries' own too, and hides what is private."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime
from typing import Any

import pytest

from api.logs import HIDDEN, NEVER_LOGGED, set_up_logs
from geo.errors import InvalidValue


def logged(body: str, **environ: str) -> str:
    """What a process writes to stderr that runs `body` with logs set up."""
    text = (
        "import logging, structlog\nfrom api.logs import set_up_logs\n"
        f"set_up_logs('gateway')\nlog = structlog.get_logger('here')\n{body}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == ""
    return done.stderr


def lines(body: str, **environ: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in logged(body, **environ).splitlines()]


def test_a_line() -> None:
    (line,) = lines("log.info('order_placed', order_id='ord_1', price_fen=900)")
    datetime.fromisoformat(line.pop("at"))
    assert line.pop("pid") > 0
    assert line == {
        "level": "info",
        "role": "gateway",
        "event": "order_placed",
        "order_id": "ord_1",
        "price_fen": 900,
    }


def test_a_library_s_line() -> None:
    (line,) = lines("logging.getLogger('asyncio').warning('took %.1f s', 0.2)")
    assert (line["level"], line["role"], line["event"]) == ("warning", "gateway", "took 0.2 s")


def test_an_error_with_its_traceback_is_one_line() -> None:
    (line,) = lines("try: 1 / 0\nexcept ZeroDivisionError: log.exception('broken')")
    assert "ZeroDivisionError" in line["exception"]


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("logger", ["log", "logging.getLogger('asyncio')"])
def test_a_traceback_shows_no_local_variables(form: str, logger: str) -> None:
    body = (
        "def fail(door):\n"
        "    raise KeyError('order')\n"
        "try:\n"
        "    fail('Frobozz ' + 'Lane')\n"
        "except KeyError:\n"
        f"    {logger}.exception('broken')\n"
    )
    text = logged(body, HEXRUN_LOG_FORMAT=form)
    assert "KeyError: 'order'" in text
    assert "Frobozz Lane" not in text


def test_what_is_private_is_hidden() -> None:
    facts = ", ".join(f"{name}='{name}-of-anna'" for name in sorted(NEVER_LOGGED))
    (line,) = lines(f"log.warning('seen', order_id='ord_1', {facts})")
    assert {line[name] for name in NEVER_LOGGED} == {HIDDEN}
    assert line["order_id"] == "ord_1"


def test_levels() -> None:
    both = "log.info('small'); log.error('great')"
    assert [line["event"] for line in lines(both, HEXRUN_LOG_LEVEL="error")] == ["great"]


def test_as_text() -> None:
    text = logged("log.info('order_placed', order_id='ord_1')", HEXRUN_LOG_FORMAT="text")
    assert "order_placed" in text
    assert "order_id=ord_1" in text


@pytest.mark.parametrize("variable", ["HEXRUN_LOG_LEVEL", "HEXRUN_LOG_FORMAT"])
def test_what_cannot_be(variable: str) -> None:
    with pytest.raises(InvalidValue, match=variable):
        set_up_logs("gateway", {variable: "loud"})
