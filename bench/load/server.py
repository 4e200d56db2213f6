"""A PostgreSQL of its own for a measurement, with fsync, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from api.supervisor import leashed
from api.supervisor.embedded import POSTGRES_VARIABLE, REDIS_VARIABLE


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The address of an empty database; everything is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="hexrun-bench-"))
    folder.chmod(0o755)  # as root, PostgreSQL's user must pass
    env = {k: v for k, v in os.environ.items() if k not in (POSTGRES_VARIABLE, REDIS_VARIABLE)}
    process = subprocess.Popen(
        leashed([sys.executable, "-m", "api.supervisor", str(folder)]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["postgres"]
    finally:
        process.terminate()
        process.communicate(timeout=30)
        shutil.rmtree(folder)


def plain(url: str) -> str:
    """The address for asyncpg itself."""
    return url.replace("+asyncpg", "", 1)
