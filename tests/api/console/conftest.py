"""A scripted city for the page: a websocket server with the real frames, and a browser.

The frames are made and read by `api.messages`, so that the page is held to the wire format.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from api import messages as m
from api.clock import now_ms
from geo.datum import System

DIST = Path(__file__).parents[3] / "api" / "console" / "dist"
TOKEN = "a-token"
CENTRE = m.Centre(30.6586, 104.0648)
UNAUTHORISED = 4401
WAIT_S = 10


class City:
    """The server's side: what it shows to a page that comes, and what it is told."""

    centre, token = CENTRE, TOKEN

    def __init__(self) -> None:
        self.riders: list[m.RiderRow] = []
        self.orders: list[m.Order] = []
        self.refusal = ""
        self.first_error: m.Error | None = None
        self.asked: list[m.ClientFrame] = []
        self.subprotocols: list[str | None] = []
        self.status: dict[str, object] | None = None
        self._sockets: list[ServerConnection] = []
        self._server: Server = serve(
            self._page,
            "127.0.0.1",
            0,
            subprotocols=[m.JSON.subprotocol],  # type: ignore[list-item]
        )
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @staticmethod
    def rider(
        name: str, lat: float, lon: float, state: str = "idle", heading: float | None = None
    ) -> m.RiderRow:
        return m.RiderRow(name, lat, lon, heading, state, now_ms())

    @staticmethod
    def order(
        name: str,
        state: str,
        rider_id: str | None = None,
        stops: tuple[str, str] = ("planned", "planned"),
        promise_in_s: float = 1200.5,
    ) -> m.Order:
        lat, lon = CENTRE.lat, CENTRE.lon
        return m.Order(
            order_id=name,
            version=1,
            state=state,
            code="101",
            rider_id=rider_id,
            promise_to_ms=now_ms() + int(promise_in_s * 1000),
            stops=[
                m.StopView(kind="pickup", lat=lat + 0.004, lon=lon + 0.006, state=stops[0]),
                m.StopView(kind="dropoff", lat=lat - 0.005, lon=lon + 0.009, state=stops[1]),
            ],
        )

    def push(self, frame: m.Told) -> None:
        for page in list(self._sockets):
            page.send(m.JSON.encode(frame).decode())

    def move(self, *rows: m.RiderRow) -> None:
        self.push(m.Riders(server_ms=now_ms(), riders=list(rows)))

    def cut(self) -> None:
        """As a cable is cut: without a closing frame."""
        while self._sockets:
            with contextlib.suppress(OSError):  # the page has gone
                self._sockets.pop().socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self._server.shutdown()

    def _page(self, page: ServerConnection) -> None:
        self.subprotocols.append(page.subprotocol)
        try:
            self.asked.append(m.JSON.decode(page.recv(timeout=WAIT_S)))
            if self.refusal:
                page.close(UNAUTHORISED, self.refusal)
                return
            self._send(
                page,
                m.Welcome(
                    session="s1",
                    role="operator",
                    subject="op",
                    server_ms=now_ms(),
                    last_seq=-1,
                    system=System.WGS84,
                ),
            )
            self.asked.append(m.JSON.decode(page.recv(timeout=WAIT_S)))
            if self.first_error is not None:
                self._send(page, self.first_error)
            self._send(
                page,
                m.City(centre=CENTRE, server_ms=now_ms(), riders=self.riders, orders=self.orders),
            )
            self._sockets.append(page)
            for text in page:
                self.asked.append(m.JSON.decode(text))
        except (ConnectionClosed, TimeoutError):
            pass

    def _send(self, page: ServerConnection, frame: m.Told) -> None:
        page.send(m.JSON.encode(frame).decode())


class Files(SimpleHTTPRequestHandler):
    """The built page and the status route, as the HTTP server has them."""

    def __init__(self, city: City, *args: object, **kwargs: object) -> None:
        self._city = city
        super().__init__(*args, directory=str(DIST), **kwargs)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path != "/v1/city/demo/status":
            super().do_GET()
            return
        known = self.headers.get("authorization") == f"Bearer {TOKEN}"
        body = json.dumps(self._city.status or {}).encode()
        self.send_response(200 if known else 401)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Opened:
    """A page that shows the city."""

    def __init__(self, page: Page, address: str, complaints: list[str]) -> None:
        self.page, self.address, self.complaints = page, address, complaints

    def ask(self, what: str) -> object:
        """An expression on `window.hexrun`, such as `riders()`."""
        return self.page.evaluate(f"() => window.hexrun.{what}")

    def text(self, testid: str) -> str:
        return self.page.get_by_test_id(testid).inner_text()

    def until(self, truth: Callable[[], object], what: str, limit_s: float = WAIT_S) -> None:
        """Polls from here: the page's own policy lets nobody evaluate text inside it."""
        for _ in range(int(limit_s / 0.05)):
            if truth():
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"not within {limit_s} s: {what}")

    def find(self, text: str) -> None:
        self.page.get_by_role("searchbox").fill(text)
        self.page.get_by_role("searchbox").press("Enter")


@pytest.fixture
def city() -> Iterator[City]:
    city = City()
    yield city
    city.close()


@pytest.fixture
def site(city: City) -> Iterator[str]:
    """The address of the built page, without a fragment."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, city))
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


# Closed after this module: an open sync browser leaves its event loop running in the thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium is not None, "the browser tests need the Debian package chromium"
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(
            executable_path=chromium,
            args=[
                "--no-sandbox",
                "--use-angle=swiftshader",
                "--enable-unsafe-swiftshader",
                "--ignore-gpu-blocklist",
            ],
        )


@pytest.fixture
def fragment(city: City) -> str:
    stream = f"ws://127.0.0.1:{city.port}/v1/stream"
    return "#" + urlencode({"token": TOKEN, "stream": stream, "city": "demo"})


@pytest.fixture
def opened(browser: Browser, site: str, fragment: str) -> Iterator[Callable[..., Opened]]:
    """Opens the page. Whatever it or the browser complained of fails the test at its end."""
    complaints: list[str] = []
    pages: list[Page] = []

    def open_(width: int = 1280, height: int = 800, address: str = fragment) -> Opened:
        page = browser.new_page(viewport={"width": width, "height": height})
        pages.append(page)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console",
            lambda said: complaints.append(said.text) if said.type == "error" else None,
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith(site)
                else complaints.append(f"asked for {request.url}")
            ),
        )
        page.goto(site + address)
        return Opened(page, site + address, complaints)

    yield open_
    for page in pages:
        page.close()
    assert not complaints
