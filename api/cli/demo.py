"""`hexrun demo`: a live city on this machine, with bots, a status line and KPIs at its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import yaml
from rich.console import Console
from rich.live import Live
from rich.text import Text

from api.auth import Role, Tokens
from api.cli.bots import BOTS_NAME
from api.cli.dispatch_file import DISPATCH_NAME
from api.cli.live import live_services, set_ports
from api.cli.output import show
from api.clock import monotonic_s, now_ms
from api.feed import pause
from api.gateway.server import STREAM_PATH
from api.journal import PlanMade, journals, read_journal
from api.logs import warn_on_screen
from api.segments import iterate
from api.settings import Settings, remember_city
from api.store import Store
from api.supervisor import DataFolder, ServerUrls, Service, Supervisor
from dispatch.events import Event, RiderEvent
from geo.errors import InvalidValue
from sim.kpi import KpiBook
from sim.scenario import Scenario, load_scenario

MARK = "demo.json"
ADDRESS_NAME = "address"  # holds an operator's token while the demo runs
BOTS = "bots"
TOKEN_TTL_S = 12 * 3600
PAGE = 1_000
# What the bots count, beside the fixes; what ends in `refused` or `failed` should be near zero.
BOT_COUNTS = (
    "actions_sent",
    "actions_done",
    "actions_refused",
    "orders_refused",
    "riders_refused",
    "cancels_refused",
    "errors_heard",
    "rider_reconnects",
    "bots_failed",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    data: Path
    scenario: str
    seed: int
    minutes: float | None
    headless: bool
    as_json: bool


def demo(options: DemoOptions) -> None:
    """Runs the demo; returns once everything is stopped and the KPIs are printed."""
    scenario = load_scenario(options.scenario)
    city = scenario.city
    os.environ["HEXRUN_CITY"] = f"{city.name}:{city.lat},{city.lon}"
    warn_on_screen()
    try:
        _fresh(options.data, options.scenario)
        (options.data / DISPATCH_NAME).write_text(yaml.safe_dump(_dispatch_file(scenario)))
        remember_city(os.environ, options.data)
    except OSError as error:
        expected = f"a folder that this user can write ({error.strerror})"
        raise InvalidValue("data", str(options.data), expected) from None
    kpis = asyncio.run(_Demo(options, scenario).run())
    show(f"{options.scenario}, seed {options.seed}", kpis, options.as_json)


def _fresh(data: Path, scenario: str) -> None:
    """An empty folder: the last demo's is removed, anybody else's is refused."""
    if data.exists() and any(data.iterdir()):
        if not (data / MARK).is_file():
            raise InvalidValue("data", str(data), "an empty folder, or one that a demo made")
        with DataFolder(data):  # refused while its demo still runs
            pass
        shutil.rmtree(data)
    data.mkdir(parents=True, exist_ok=True)
    (data / MARK).write_text(json.dumps({"scenario": scenario}) + "\n")


def _dispatch_file(scenario: Scenario) -> dict[str, Any]:
    """How the simulator dispatches the scenario, for the live dispatcher."""
    travel: dict[str, Any] = {"model": scenario.travel.model}
    if scenario.travel.detour is not None:
        travel["detour"] = scenario.travel.detour
    return {"policy": asdict(scenario.policy), "travel": travel}


class _Demo:
    def __init__(self, options: DemoOptions, scenario: Scenario) -> None:
        self._options, self._scenario = options, scenario
        self._console = Console(stderr=True)
        self._stop = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        options = self._options
        http, stream = set_ports(self._moved)
        began_s = monotonic_s()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        self._say(f"starting the city in {options.data} ...")
        with DataFolder(options.data) as folder:
            bots = Service.role(BOTS, "--scenario", options.scenario, "--seed", str(options.seed),
                                after=("http", "gateway", "dispatcher"))  # fmt: skip
            services = [*live_services(folder), replace(bots, restart="on-failure")]
            supervisor = Supervisor(folder, services, handle_signals=False)
            await supervisor.start()
            try:
                urls = _urls(services)
                settings = _settings(urls, folder)
                token = Tokens(settings.secret).mint(
                    sub="demo", role=Role.OPERATOR, city=settings.city.name, ttl_s=TOKEN_TTL_S
                )
                address = (
                    f"http://127.0.0.1:{http}/#token={token}"
                    f"&stream=ws://127.0.0.1:{stream}{STREAM_PATH}&city={settings.city.name}"
                )
                self._say(f"up in {monotonic_s() - began_s:.1f} s; watch it at")
                self._say(address)
                _write_private(folder.path / ADDRESS_NAME, address + "\n")
                await self._watch(settings, token)
                await self._stop_bots(supervisor)
                return await self._kpis(settings)
            finally:
                self._say("stopping ...")
                await supervisor.stop()
                (folder.path / ADDRESS_NAME).unlink(missing_ok=True)

    def _say(self, text: str) -> None:
        self._console.print(f"hexrun: {text}", soft_wrap=True, highlight=False)

    def _moved(self, port: int, used: int) -> None:
        self._say(f"port {port} is in use; using {used}")

    async def _watch(self, settings: Settings, token: str) -> None:
        """Shows the status line until the time is over or Ctrl-C."""
        minutes = self._options.minutes
        ends_s = None if minutes is None else monotonic_s() + 60 * minutes
        quiet = self._options.headless
        live = Live(console=self._console, refresh_per_second=4, transient=True)
        client = httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{settings.http_port}",
            headers={"Authorization": f"Bearer {token}"},
        )
        async with client:
            with contextlib.nullcontext() if quiet else live:
                while not self._stop.is_set() and (ends_s is None or monotonic_s() < ends_s):
                    if not quiet:
                        live.update(await self._line(client, settings, ends_s))
                    left = 1.0 if ends_s is None else min(1.0, max(0.0, ends_s - monotonic_s()))
                    await pause(self._stop, left)

    async def _line(
        self, client: httpx2.AsyncClient, settings: Settings, ends_s: float | None
    ) -> Text:
        try:
            answer = await client.get(f"/v1/city/{settings.city.name}/status")
            status = answer.json() if answer.status_code == 200 else {}
        except httpx2.TransportError:
            status = {}
        bots = _read_json(settings.data / "run" / BOTS_NAME)
        orders = status.get("orders", {})
        parts = [
            f"riders {status.get('riders_on_shift', '-')}",
            *(f"{name} {orders.get(name, 0)}" for name in ("open", "assigned", "under_way")),
            f"done {orders.get('done', 0) + orders.get('completed', 0)}",
            f"fixes {bots.get('fixes_acknowledged', 0)}",
        ]
        if ends_s is not None:
            parts.append(f"{max(0.0, ends_s - monotonic_s()):.0f} s left")
        return Text("  ".join(parts), style="bold")

    async def _stop_bots(self, supervisor: Supervisor) -> None:
        """The bots end first, so that what they sent is acknowledged and counted."""
        pid = next((s.pid for s in supervisor.status() if s.name == BOTS), None)
        if pid is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            if next(s.state for s in supervisor.status() if s.name == BOTS) == "ended":
                return
            await asyncio.sleep(0.1)

    async def _kpis(self, settings: Settings) -> dict[str, Any]:
        """From what stands in the store, the journal and the segments, and the bots' own counts."""
        plane, travel = self._scenario.plane, self._scenario.travel.build()
        book = KpiBook(plane, travel)
        store = await Store.open(settings.postgres_url)
        try:
            for event in sorted(await _all_events(store, settings.city.name), key=_moment):
                book.add(event)
        finally:
            await store.close()
        rounds = list(_rounds(settings.data))
        kpis: dict[str, Any] = dict(
            book.result(now_ms(), [r.ms for r in rounds], sum(r.refused for r in rounds))
        )
        bots = _read_json(settings.data / "run" / BOTS_NAME)
        segments = sorted((settings.data / "segments").glob("*.seg"))
        kpis["rounds"] = len(rounds)
        kpis["rounds_greedy"] = sum(r.solver == "greedy" for r in rounds)
        kpis["round_ms_p50"] = float(np.median([r.ms for r in rounds])) if rounds else None
        kpis["fixes_sent"] = bots.get("fixes_sent", 0)
        kpis["fixes_received"] = sum(
            len(record.rows) for path in segments for _, record in iterate(path)
        )
        kpis["fixes_acknowledged"] = bots.get("fixes_acknowledged", 0)
        for name in BOT_COUNTS:
            kpis[name] = bots.get(name, 0)
        return kpis


def _write_private(path: Path, text: str) -> None:
    """A new file that only this user reads."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def _urls(services: list[Service]) -> ServerUrls:
    urls = {s.name: s.server.url for s in services if s.server is not None}
    return ServerUrls(postgres=urls["postgres"], redis=urls["valkey"])


def _settings(urls: ServerUrls, folder: DataFolder) -> Settings:
    return Settings.from_environment(
        {
            **os.environ,
            "HEXRUN_POSTGRES_URL": urls.postgres,
            "HEXRUN_REDIS_URL": urls.redis,
            "HEXRUN_DATA": str(folder.path),
        }
    )


def _moment(event: Event | RiderEvent) -> int:
    return event.at_ms


async def _all_events(store: Store, city: str) -> list[Event | RiderEvent]:
    events: list[Event | RiderEvent] = []
    position = 0
    while page := await store.events_after(position, city, PAGE):
        events += [p.event for p in page]
        position = page[-1].position
    return events


def _rounds(data: Path) -> Iterator[PlanMade]:
    for path in journals(data):
        for record in read_journal(path):
            if isinstance(record, PlanMade):
                yield record


def _read_json(path: Path) -> dict[str, int]:
    try:
        found: dict[str, int] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return found
