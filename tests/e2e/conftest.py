"""A real demo for the tests of this folder: one minute of a live city, started once."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

MINUTES = 1.0
START_LIMIT_S = 120
ROOT = Path(__file__).resolve().parents[2]


class Demo:
    def __init__(self, folder, minutes=MINUTES):
        self.folder, self.minutes = folder, minutes
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEXRUN_")}
        for name in ("HEXRUN_HTTP_PORT", "HEXRUN_STREAM_PORT"):
            environment[name] = str(free_port())
        self.began_s = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "demo", "--minutes", str(minutes), "--headless",
             "--json", "--data", str(folder)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self._ended = None

    def address(self):
        path = self.folder / "address"
        while not path.exists():
            if self.process.poll() is not None:
                pytest.fail(f"the demo ended: {self.process.communicate()[1]}")
            assert time.monotonic() - self.began_s < START_LIMIT_S, "the demo did not come up"
            time.sleep(0.1)
        return path.read_text().strip()

    def end(self):
        """(exit code, last JSON line, stderr) once it has ended by itself."""
        if self._ended is None:
            out, err = self.process.communicate(timeout=180 + 60 * self.minutes)
            assert out.strip(), f"no KPIs: {err}"
            self._ended = self.process.returncode, json.loads(out.splitlines()[-1]), err
        return self._ended


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def make_demo():
    return Demo


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    running = Demo(tmp_path_factory.mktemp("demo") / "city")
    yield running
    if running.process.poll() is None:
        running.process.terminate()
        running.process.wait(60)
    shutil.rmtree(running.folder, ignore_errors=True)
