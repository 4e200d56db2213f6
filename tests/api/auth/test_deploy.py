"""The examples of `deploy/` work: a real nginx with TLS before HTTP and stream, and the units."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner
from websockets.asyncio.client import connect

from api.cli.app import app as command_line
from api.cli.roles import ROLES
from api.http import serve_http
from api.settings import Settings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").iterdir())
NAME = "hexrun.example.com"
PLACE = {"lat": 31.2285, "lon": 121.4782}


def certificate(folder: Path) -> None:
    """A key and a certificate that signs itself, for NAME and 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(NAME), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.NoEncryption()
    (folder / "fullchain.pem").write_bytes(made.public_bytes(pem))
    (folder / "privkey.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass
class Front:
    """The proxy as clients see it."""

    house: Any
    port: int
    plain: int
    tls: ssl.SSLContext
    folder: Path


@pytest.fixture
async def front(houses: Any, tmp_path: Path) -> AsyncIterator[Front]:
    subprocess.run([ROOT / "scripts" / "debian-packages", "nginx"], check=True)
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    assert program
    house = houses(rates=_rates())
    await house.open_gateway()
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve_http(house.settings, stop, ready=port.set_result))
    folder = tmp_path / "nginx"
    folder.mkdir()
    certificate(folder)
    plain, tls_port = free_port(), free_port()
    text = (DEPLOY / "nginx.conf").read_text()
    for ours, theirs in (
        ("127.0.0.1:8080", f"127.0.0.1:{await port}"),
        ("127.0.0.1:8081", f"127.0.0.1:{house.port}"),
        ("listen 80;", f"listen 127.0.0.1:{plain};"),
        ("listen 443 ssl;", f"listen 127.0.0.1:{tls_port} ssl;"),
        ("/etc/hexrun/tls/", f"{folder}/"),
        ("/var/log/nginx/", f"{folder}/"),
    ):
        assert ours in text
        text = text.replace(ours, theirs)
    (folder / "site.conf").write_text(text)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/start.log;"
        + ("user root;" if Path("/proc/self").stat().st_uid == 0 else "")
        + f"events {{}} http {{ {temporary} "
        # As the distribution's own nginx.conf has them, before it includes ours.
        + f"access_log {folder}/usual.access.log; error_log {folder}/usual.error.log;"
        + f" include {folder}/site.conf; }}"
    )
    nginx = await asyncio.create_subprocess_exec(program, "-c", folder / "nginx.conf", "-p", folder)
    try:
        await _listens(tls_port, nginx, folder)
        tls = ssl.create_default_context(cafile=str(folder / "fullchain.pem"))
        yield Front(house, tls_port, plain, tls, folder)
    finally:
        if nginx.returncode is None:
            nginx.terminate()
            await nginx.wait()
        stop.set()
        await serving


def _rates() -> Any:
    return Settings.from_environment(
        {
            "HEXRUN_POSTGRES_URL": "postgresql://x",
            "HEXRUN_REDIS_URL": "redis://x",
            "HEXRUN_SECRET": "kT3q9-wZ7uXy2-bL5nMv8-pR4sDf6-gH1jK",
            "HEXRUN_TRUSTED_PROXIES": "127.0.0.1/32",
        }
    ).rates


async def _listens(port: int, nginx: Any, folder: Path) -> None:
    async with asyncio.timeout(20):
        while True:
            assert nginx.returncode is None, (folder / "start.log").read_text()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return


async def test_an_order_and_a_socket_through_the_proxy(front: Front) -> None:
    house = front.house
    key = await house.key("integrator", "shop")
    base = f"https://127.0.0.1:{front.port}"
    # From an address of its own, so that the proxy's is not taken for it.
    own_address = httpx2.AsyncHTTPTransport(verify=front.tls, local_address="127.0.0.7")
    headers = {
        "Authorization": f"Bearer {key}",
        "Idempotency-Key": "one",
        "X-Forwarded-For": "203.0.113.9",  # a lie
    }
    async with httpx2.AsyncClient(base_url=base, headers=headers, transport=own_address) as shop:
        stops = [{"place": PLACE}, {"place": PLACE | {"lat": 31.24}}]
        placed = await shop.post("/v1/orders", json={"customer_id": "cora", "stops": stops})
        assert placed.status_code == 201, placed.text
        order_id = placed.json()["id"]
        token = (await shop.post("/v1/tokens", json={"role": "customer", "sub": "cora"})).json()[
            "token"
        ]
        assert (await shop.get("/readyz")).status_code == 404
        assert (await shop.get("/livez")).status_code == 200
    deeds = await house.store.keys.deeds("default", "demo", 0, 10)
    assert [(deed.object, deed.address) for _, deed in deeds] == [
        (order_id, "127.0.0.7"),
        ("customer/cora", "127.0.0.7"),
    ]
    address = f"wss://127.0.0.1:{front.port}/v1/stream?token={token}"
    async with connect(address, ssl=front.tls) as phone:
        await phone.send('{"type": "hello"}')
        welcome = json.loads(await phone.recv())
        assert (welcome["type"], welcome["subject"]) == ("welcome", "cora")
        await phone.send(json.dumps({"type": "watch", "orders": [order_id]}))
        assert json.loads(await phone.recv())["order_id"] == order_id
    async with httpx2.AsyncClient() as stray:
        sent_on = await stray.get(f"http://127.0.0.1:{front.plain}/v1/stream?token={token}")
    assert sent_on.status_code == 301
    assert sent_on.headers["location"].endswith("/v1/stream")
    logged = "".join(path.read_text() for path in front.folder.glob("*.log"))
    assert '"GET /v1/stream" 301' in logged
    assert '"POST /v1/orders" 201' in logged
    assert token not in logged
    assert "token=" not in logged


def test_the_units_as_systemd_reads_them(tmp_path: Path) -> None:
    program = f"{sys.prefix}/bin/hexrun"
    for unit in UNITS:
        text = unit.read_text().replace("/opt/hexrun/.venv/bin/hexrun", program)
        (tmp_path / unit.name).write_text(text)
    instances = [
        name for unit in UNITS for name in re.findall(r"hexrun-\w+@\w+\.service", unit.read_text())
    ]
    for name in instances:
        template = tmp_path / re.sub(r"@\w+", "@", name)
        (tmp_path / name).write_text(template.read_text())
    analyse = shutil.which("systemd-analyze")
    if analyse is not None:
        targets = [tmp_path / unit.name for unit in UNITS if "@" not in unit.name]
        verified = subprocess.run(
            [analyse, "verify", *targets, *(tmp_path / name for name in instances)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (verified.returncode, verified.stderr) == (0, "")


def test_the_units_start_what_the_command_line_has() -> None:
    lines = [
        (unit.name, line.removeprefix("ExecStart=").split()[1:])
        for unit in UNITS
        for line in unit.read_text().splitlines()
        if line.startswith("ExecStart=") and " role " in line
    ]
    wanted = {
        unit_name: set(re.findall(rf"{unit_name.split('@')[0]}@(\w+)\.service", text))
        for unit_name, _ in lines
        for text in ["\n".join(unit.read_text() for unit in UNITS)]
    }
    started = set()
    for unit_name, (command, role, *options) in lines:
        for name in wanted[unit_name] if role == "%i" else {role}:
            assert name in ROLES
            started.add(name)
        known = CliRunner().invoke(command_line, [command, "--help"], env={"COLUMNS": "200"})
        assert known.exit_code == 0
        assert all(option in known.output for option in options if option.startswith("--"))
    assert started == set(ROLES)


def test_files_are_swept_on_every_machine_that_writes_some(tmp_path: Path) -> None:
    units = {unit.name: unit.read_text() for unit in UNITS}
    for target in ("hexrun-doors.target", "hexrun-engine.target"):
        assert "Wants=hexrun-sweep.timer" in units[target]
    assert "[Timer]" in units["hexrun-sweep.timer"]
    command = re.search(r"^ExecStart=\S+ (.*) --data \S+$", units["hexrun-sweep.service"], re.M)
    assert command is not None
    done = CliRunner().invoke(command_line, [command[1], "--data", str(tmp_path)])
    assert (done.exit_code, done.output) == (0, "hexrun: 0 files older than 7 days are dropped\n")


def test_the_example_of_the_environment(tmp_path: Path) -> None:
    lines = (DEPLOY / "hexrun.env.example").read_text().splitlines()
    environ = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert environ["HEXRUN_SECRET_FILE"] == "/etc/hexrun/secret"
    settings = Settings.from_environment(
        environ | {"HEXRUN_DATA": str(tmp_path), "HEXRUN_SECRET_FILE": str(tmp_path / "secret")}
    )
    assert settings.host == "10.0.0.2"
    described = (ROOT / "docs" / "running.md").read_text()
    assert all(f"`{name}`" in described for name in environ)
