"""A role reads what it needs and no more: what it reads is the time in which it is back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"alembic", "dispatch.engine", "fastapi", "numba", "pydantic", "scipy", "uvicorn"}
HEAVY |= {"websockets", "api.cli.bots", "sim.run", "typer.testing", "api.supervisor.embedded"}
NEEDED = {
    "dispatcher": {"pydantic"},
    "gateway": {"websockets"},
    "http": {"alembic", "fastapi", "pydantic", "uvicorn"},
    "sequencer": set[str](),
}
# With `stop` set from the start, and no PostgreSQL to wait for. The conversions of places are read
# when the door is open, which is not what this is about.
START = """
import asyncio, json, sys
from api.cli.roles import load_role
from api.cli.roles import warming
from api.settings import Settings
warming.warm_up = lambda: None
async def run():
    stop, ready = asyncio.Event(), asyncio.Event()
    stop.set()
    await load_role(sys.argv[1])(Settings.from_environment(), stop, ready)
asyncio.run(run())
print(json.dumps(sorted(sys.modules)))
"""


@pytest.mark.parametrize("role", NEEDED)
def test_a_role_reads_nothing_heavy_that_it_does_not_need(role: str, tmp_path: Path) -> None:
    environ = {
        **os.environ,
        "HEXRUN_POSTGRES_URL": f"postgresql://hexrun@/hexrun?host={tmp_path}",
        "HEXRUN_REDIS_URL": f"unix://{tmp_path}/valkey.sock",
        "HEXRUN_DATA": str(tmp_path),
        "HEXRUN_HTTP_PORT": "0",
        "HEXRUN_STREAM_PORT": "0",
    }
    done = subprocess.run(
        [sys.executable, "-c", START, role],
        env=environ,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    read = set(json.loads(done.stdout.splitlines()[-1]))
    assert read & HEAVY <= NEEDED[role]
    assert "api.store.store" in read, "the role was started"
