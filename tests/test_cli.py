"""The command line: what it refuses, and what it prints."""

import json
import re
import socket
import subprocess
import sys
from importlib.metadata import version

import pytest

from api.auth import Tokens
from api.cli import live
from api.cli.dispatch_file import read_dispatch_file
from api.cli.live import live_services, read_processes, read_spares
from api.data_keys import KeyRing
from api.supervisor import DataFolder
from geo.errors import InvalidValue, StartupError


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
        (("sim", "replay", "."), "holds no journal"),
        (("token", "--role", "king", "--sub", "x"), "role: 'king'"),
        (("token", "--role", "rider", "--sub", "x"), "data: no secret there; start 'hexrun up"),
        (("role", "nobody"), "role: 'nobody'"),
        (("role", "http"), "HEXRUN_POSTGRES_URL is not set"),
        (("demo", "--data", "/proc/none"), "data: '/proc/none'"),
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


def test_a_token_is_for_the_city_of_its_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("HEXRUN_CITY", raising=False)
    (tmp_path / "secret").write_text("x" * 40)
    ask = ("token", "--role", "rider", "--sub", "r1", "--data", str(tmp_path))

    def city(*more):
        return Tokens("x" * 40).verify(hexrun(*ask, *more).stdout.strip()).city

    assert city() == "demo"
    monkeypatch.setenv("HEXRUN_CITY", "berlin:52.52,13.405")
    assert city() == "berlin"
    (tmp_path / "city").write_text("paris\n")
    assert city() == "paris"
    assert city("--city", "rome") == "rome"


def test_a_port_in_use(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(live, "HTTP_PORT", port)
        monkeypatch.setenv("HEXRUN_STREAM_PORT", "0")
        monkeypatch.setenv("HEXRUN_HTTP_PORT", str(port))
        moved = []
        with pytest.raises(StartupError, match=f"{port} .* is in use.* HEXRUN_HTTP_PORT"):
            live.set_ports(lambda *ports: moved.append(ports))
        monkeypatch.setenv("HEXRUN_HTTP_PORT", "")
        with pytest.raises(StartupError, match="HEXRUN_HTTP_PORT"):
            live.set_ports()
        assert not moved
        http, _ = live.set_ports(lambda *ports: moved.append(ports))
        assert moved == [(port, http)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("polcy: {}", "polcy.* expected one of policy, travel"),
        ("policy: {tick: 1}", "policy.tick: .* expected one of version, tick_ms"),
        ("travel: {detour: far}", "travel.detour: 'far'"),
        ("policy: {}\npolicy: {}", "line 2: 'the key policy for a second time'"),
    ],
)
def test_a_wrong_dispatch_file(tmp_path, text, told):
    (tmp_path / "dispatch.yaml").write_text(text)
    with pytest.raises(InvalidValue, match=told):
        read_dispatch_file(tmp_path)


def test_the_version_and_the_jobs():
    assert hexrun("--version").stdout.split() == ["hexrun", version("hexrun")]
    assert hexrun("jobs", "list").stdout.splitlines()[1].split(maxsplit=1) == [
        "delivery", "pickup > dropoff",
    ]  # fmt: skip


def test_a_table_has_each_unit_once_and_the_whole_digest():
    done = hexrun("sim", "run", "small")
    assert done.stderr == ""
    words = " ".join(done.stdout.replace("│", " ").split())
    assert re.search(r" online 2\d\d h ", words)
    assert re.search(r" km 1,\d\d\d ", words)
    assert "…" not in words
    assert len(words.split("event_log_sha256 ")[1]) == 64


def test_the_same_seed_gives_the_same_events_in_another_process():
    first, second = (
        json.loads(hexrun("sim", "run", "small", "--seed", "3", "--json").stdout) for _ in range(2)
    )
    assert first["event_log_sha256"] == second["event_log_sha256"]
    assert first["orders_created"] == 600
    other = json.loads(hexrun("sim", "run", "small", "--seed", "4", "--json").stdout)
    assert other["event_log_sha256"] != first["event_log_sha256"]


def test_keys_are_listed_and_rotated(tmp_path):
    path = tmp_path / "data-keys"
    first = KeyRing.open(path).newest
    done = hexrun("data-keys", "rotate", "--data", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert KeyRing(path).ids[0] == first
    assert len(KeyRing(path).ids) == 2
    # Without the database nobody knows what the old one still encrypts.
    refused = hexrun("data-keys", "remove", first, "--data", str(tmp_path))
    assert refused.returncode == 2
    assert "no PostgreSQL answers" in refused.stderr
    assert len(KeyRing(path).ids) == 2


def test_as_many_processes_a_role_as_are_asked_for(tmp_path):
    asked = {"HEXRUN_PROCESSES": "http=2, gateway=3", "HEXRUN_STATUS_PORT": "9100"}
    with DataFolder(tmp_path / "data") as folder:
        services = {s.name: s for s in live_services(folder, asked) if "role" in s.argv}
        plain = {s.name: s for s in live_services(folder, {}) if "role" in s.argv}
    assert list(services) == [
        "migrate", "sequencer", "dispatcher", "gateway", "gateway-2", "gateway-3",
        "http", "http-2", "webhooks",
    ]  # fmt: skip
    assert services["gateway-3"].argv == services["gateway"].argv
    ports = [s.env["HEXRUN_STATUS_PORT"] for s in services.values() if s.name != "migrate"]
    assert ports == [str(9100 + n) for n in range(8)]
    assert list(plain) == ["migrate", "sequencer", "dispatcher", "gateway", "http", "webhooks"]
    assert not any(s.env or s.spare for s in plain.values())


def test_doors_have_spares_unless_they_are_not_wanted(tmp_path):
    with DataFolder(tmp_path / "data") as folder:
        services = live_services(folder, {"HEXRUN_PROCESSES": "http=2"}, spares=True)
    assert [s.name for s in services if s.spare] == ["gateway", "http", "http-2"]
    assert [read_spares({"HEXRUN_SPARES": given}) for given in ("", "0", "1")] == [
        True,
        False,
        True,
    ]
    with pytest.raises(InvalidValue, match="HEXRUN_SPARES"):
        read_spares({"HEXRUN_SPARES": "2"})


@pytest.mark.parametrize("asked", ["http", "http=0", "http=33", "bots=1", "http=two"])
def test_processes_that_cannot_be(asked):
    with pytest.raises(InvalidValue, match="HEXRUN_PROCESSES"):
        read_processes({"HEXRUN_PROCESSES": asked})
