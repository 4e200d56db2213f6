"""The status door answers on loopback, and the list for Prometheus has exactly those who live."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.metrics import Mode, degraded
from api.settings import CityArea, Settings
from api.status import PROMETHEUS_NAME, status_door
from geo.errors import StartupError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        postgres_url="postgresql://nobody@127.0.0.1/nothing",
        redis_url="redis://127.0.0.1",
        data=tmp_path,
        secret="a secret of 32 characters or more",
        cities=(CityArea(name="demo", lat=31.2, lon=121.4),),
    )


async def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    async with httpx2.AsyncClient() as client:
        answer = await client.request(method, f"http://127.0.0.1:{port}{path}")
        return answer.status_code, answer.text


async def test_what_the_door_says(settings: Settings) -> None:
    stop, ready = asyncio.Event(), asyncio.Event()
    facts: dict[str, Any] = {}
    async with status_door("sequencer", settings, stop, ready, lambda: facts) as port:
        assert await ask(port, "/livez") == (200, '{"status":"ok"}')
        assert (await ask(port, "/readyz"))[0] == 503
        ready.set()
        facts["lag_s"] = 0.5
        degraded(Mode.POSTGRES_AWAY, True)
        status, text = await ask(port, "/readyz")
        degraded(Mode.POSTGRES_AWAY, False)
        assert status == 200
        assert json.loads(text) == {
            "ready": True, "leaving": False, "degraded": ["postgres_away"], "lag_s": 0.5,
        }  # fmt: skip
        stop.set()
        status, text = await ask(port, "/readyz")
        assert (status, json.loads(text)["leaving"]) == (503, True)
        status, text = await ask(port, "/metrics")
        assert status == 200
        assert 'hexrun_degraded{city="",mode="postgres_away"} 0.0' in text
        assert (await ask(port, "/elsewhere"))[0] == 404
        assert (await ask(port, "/livez", "POST"))[0] == 405
        assert await ask(port, "/livez", "HEAD") == (200, "")


async def test_nonsense_and_silence_harm_nobody(settings: Settings) -> None:
    async with status_door("gateway", settings, asyncio.Event(), asyncio.Event()) as port:
        for said in (b"\r\n\r\n", b"x" * 20_000, b"GET /livez", b"\xff\xfe /\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            writer.write_eof()
            with contextlib.suppress(OSError):
                await reader.read()
            writer.close()
        assert (await ask(port, "/livez"))[0] == 200


async def test_metrics_are_for_whom_the_settings_say(settings: Settings) -> None:
    closed = replace(settings, metrics_for="none")
    async with status_door("http", closed, asyncio.Event(), asyncio.Event()) as port:
        assert (await ask(port, "/metrics"))[0] == 403


async def test_a_port_that_is_named_and_in_use(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = replace(settings, status_port=other.getsockname()[1])
        with pytest.raises(StartupError, match="HEXRUN_STATUS_PORT"):
            async with status_door("http", taken, asyncio.Event(), asyncio.Event()):
                pass


def targets(folder: Path) -> dict[str, str]:
    found = json.loads((folder / "run" / PROMETHEUS_NAME).read_text())
    return {one["labels"]["role"]: one["targets"][0] for one in found}


async def test_the_list_has_those_who_live(settings: Settings, tmp_path: Path) -> None:
    stop, ready = asyncio.Event(), asyncio.Event()
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    run = tmp_path / "run"
    run.mkdir()
    left = run / f"gateway-{dead.pid}.json"
    left.write_text(json.dumps({"role": "gateway", "pid": dead.pid, "port": 1, "since_ms": 0}))
    (run / "status.json").write_text("{}")
    async with status_door("http", settings, stop, ready) as http:
        assert json.loads((run / f"http-{os.getpid()}.json").read_text())["port"] == http
        async with status_door("webhooks", settings, stop, ready) as webhooks:
            assert targets(tmp_path) == {
                "http": f"127.0.0.1:{http}", "webhooks": f"127.0.0.1:{webhooks}",
            }  # fmt: skip
        assert targets(tmp_path) == {"http": f"127.0.0.1:{http}"}
    assert targets(tmp_path) == {}
    assert not left.exists()


async def test_a_folder_that_cannot_be_written_is_told_and_the_door_opens(
    settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "run").write_text("a file in the way")
    async with status_door("http", settings, asyncio.Event(), asyncio.Event()) as port:
        assert (await ask(port, "/livez"))[0] == 200
