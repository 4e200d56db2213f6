"""Connections to endpoints on either loop: TLS, and servers that hang up between two calls."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpcore2
import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from api.webhooks.network import CheckedNetwork

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
Run = Callable[[Coroutine[Any, Any, None]], None]

either_loop = pytest.mark.parametrize("run", [asyncio.run, uvloop.run])


def certificate(folder: Path) -> Path:
    """A key and its own certificate for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "receiver")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "receiver.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return path


async def answers(
    after: bytes, pause_s: float, count: int, tls: Path | None = None, *, trusted: bool = True
) -> tuple[list[int], int]:
    """The answers to `count` calls and the connections that they took.

    The server says `after` behind each answer; where that is not empty it hangs up with it.
    """
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(OK)
                await writer.drain()
                if after:
                    await asyncio.sleep(pause_s / 4)
                    writer.write(after)
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    here = there = None
    if tls is not None:
        here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        here.load_cert_chain(tls)
        there = ssl.create_default_context(cafile=str(tls) if trusted else None)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=here)
    port = server.sockets[0].getsockname()[1]
    url = f"{'http' if tls is None else 'https'}://127.0.0.1:{port}/"
    network = CheckedNetwork(allow_private=True)
    found = []
    async with httpcore2.AsyncConnectionPool(ssl_context=there, network_backend=network) as pool:
        for _ in range(count):
            async with asyncio.timeout(20):
                found.append((await pool.request("POST", url)).status)
            await asyncio.sleep(pause_s)
    server.close()
    return found, connections


@either_loop
def test_calls_over_tls_share_a_connection(run: Run, tmp_path: Path) -> None:
    async def look() -> None:
        assert await answers(b"", 0.0, 3, certificate(tmp_path)) == ([200] * 3, 1)

    run(look())


@either_loop
def test_a_certificate_that_nobody_vouches_for(run: Run, tmp_path: Path) -> None:
    async def look() -> None:
        with pytest.raises(httpcore2.ConnectError) as caught:
            await answers(b"", 0.0, 1, certificate(tmp_path), trusted=False)
        assert isinstance(caught.value.__context__, ssl.SSLError)  # by which the tenant is told

    run(look())


@either_loop
def test_what_a_server_says_when_it_hangs_up_is_no_answer(run: Run) -> None:
    """It may come at any time, and be the answer to nothing, as 408 is."""

    async def look() -> None:
        late = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"
        assert await answers(late, 0.2, 3) == ([200] * 3, 3)

    run(look())
