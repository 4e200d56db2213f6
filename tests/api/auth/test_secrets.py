"""A weak or open secret stops a process that others can reach; no log has a token."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from api.settings import RATES, Settings
from geo.errors import InvalidValue, StartupError

GOOD = "kT3q9-wZ7uXy2-bL5nMv8-pR4sDf6-gH1jK"
OPEN = {"HEXRUN_HOST": "0.0.0.0"}
PROXIED = {"HEXRUN_TRUSTED_PROXIES": "127.0.0.1/32"}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "HEXRUN_POSTGRES_URL": "postgresql://anna@host/base",
        "HEXRUN_REDIS_URL": "redis://host",
        "HEXRUN_DATA": str(tmp_path / "data"),
    }


@pytest.mark.parametrize("reached", [OPEN, PROXIED, {"HEXRUN_HOST": "::"}])
@pytest.mark.parametrize("weak", ["x" * 40, "change-me-" * 4, f"{GOOD}\n{'ab' * 20}"])
def test_a_secret_that_can_be_guessed(
    environ: dict[str, str], reached: dict[str, str], weak: str
) -> None:
    environ["HEXRUN_SECRET"] = weak
    Settings.from_environment(environ)  # reached from this machine only
    with pytest.raises(StartupError, match=r"HEXRUN_SECRET: .* make one by: python3 -c"):
        Settings.from_environment(environ | reached)
    Settings.from_environment(environ | reached | {"HEXRUN_SECRET": GOOD})


@pytest.mark.parametrize(("mode", "refused"), [(0o600, False), (0o640, False), (0o644, True)])
def test_a_file_that_everybody_reads(
    environ: dict[str, str], tmp_path: Path, mode: int, refused: bool
) -> None:
    file = tmp_path / "mine"
    file.write_text(GOOD + "\n")
    file.chmod(mode)
    environ["HEXRUN_SECRET_FILE"] = str(file)
    assert Settings.from_environment(environ).secret_file == file
    if refused:
        with pytest.raises(StartupError, match=rf"mode 0644\); chmod 0640 {file}"):
            Settings.from_environment(environ | OPEN)
    else:
        Settings.from_environment(environ | OPEN)


def test_a_made_secret_may_be_reached(environ: dict[str, str]) -> None:
    assert Settings.from_environment(environ | OPEN).secret_file is not None


def test_a_process_says_what_to_do(environ: dict[str, str]) -> None:
    line = [sys.executable, "-m", "api.cli", "role", "sequencer"]
    told = subprocess.run(
        line,
        env=os.environ | environ | OPEN | {"HEXRUN_SECRET": "change-me-" * 4},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 2
    assert len(told.stderr.strip().splitlines()) == 1
    assert "can be guessed; make one by" in told.stderr


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((f"HEXRUN_RATE_{name.upper()}", "lots") for name in RATES),
        ("HEXRUN_RATE_SUBJECT", "0/minute"),
        ("HEXRUN_RATE_SUBJECT", "5/day; 3/minute"),
        ("HEXRUN_TRUSTED_PROXIES", "10.0.0.1/8"),
        ("HEXRUN_TRUSTED_PROXIES", "proxy"),
        ("HEXRUN_SECRET", f"{GOOD}\nshort"),
    ],
)
def test_what_is_wrong_is_named(environ: dict[str, str], name: str, value: str) -> None:
    with pytest.raises(InvalidValue, match=name):
        Settings.from_environment(environ | {name: value})


async def test_the_token_of_a_query_is_in_no_log(
    house: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    await house.open_gateway()
    token = house.token("customer", "cora")
    for line in (
        "GET /v1/stream?token={} HTTP/1.0",
        "GET /v1/stream?token={} x y z",
        "GET /v1/stream?token={} HTTP/1.1",  # no upgrade
        "GET /nowhere?token={} HTTP/1.1",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", house.port)
        writer.write(f"{line.format(token)}\r\nHost: x\r\n\r\n".encode())
        await reader.read()
        writer.close()
    phone = await house.socket(additional_headers={"Authorization": f"Bearer {token}"})
    await phone.say("hello")
    assert (await phone.hear("welcome"))["type"] == "welcome"
    await house.close()
    ours = [r for r in caplog.records if not r.name.startswith("websockets.client")]
    written = "\n".join(logging.Formatter().format(record) for record in ours)
    written += "".join(capfd.readouterr())
    assert "connection open" in written
    assert token not in written
    assert "token=" not in written
