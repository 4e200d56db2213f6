"""The command line: what it refuses, and what it prints."""

import json
import subprocess
import sys

import pytest


def hexrun(*args):
    return subprocess.run(
        [sys.executable, "-m", "api.cli", *args], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("sim", "run", "nowhere"), "scenario: 'nowhere'"),
        (("sim", "run", "missing.yaml"), "missing.yaml"),
        (("sim", "mdrp", "missing-day"), "missing-day"),
        (("sim", "replay", "missing-folder"), "missing-folder"),
        (("token", "--role", "king", "--sub", "x"), "role: 'king'"),
        (("role", "nobody"), "HEXRUN_POSTGRES_URL"),
    ],
)
def test_a_wrong_word_is_one_line_and_code_2(args, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = hexrun(*args)
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_a_scenario_with_an_unknown_key_names_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nridders: {count: 3}\n")
    done = hexrun("sim", "run", str(path))
    assert done.returncode == 2
    assert "ridders" in done.stderr


def test_jobs_are_listed():
    assert hexrun("jobs", "list").stdout.startswith("delivery\tpickup > dropoff")


def test_the_same_seed_gives_the_same_events_in_another_process():
    first, second = (
        json.loads(hexrun("sim", "run", "small", "--seed", "3", "--json").stdout) for _ in range(2)
    )
    assert first["event_log_sha256"] == second["event_log_sha256"]
    assert first["orders_created"] == 600
    other = json.loads(hexrun("sim", "run", "small", "--seed", "4", "--json").stdout)
    assert other["event_log_sha256"] != first["event_log_sha256"]
