"""The life of one order with unmistakable personal data, and then a search for them everywhere.

The live system as `hexrun up` runs it: HTTP, gateway, sequencer, dispatcher, PostgreSQL, Valkey.
The search is for tokens and keys too; and the trace of that life is looked at.
"""

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote

import asyncpg
import httpx2
import pytest
import redis.asyncio
from websockets.asyncio.client import connect

from api.auth import Tokens
from api.store.schema import metadata

ROOT = __file__.rsplit("/tests/", 1)[0]
START_LIMIT_S = 120
LIMIT_S = 30
HERE = {"lat": 31.2290, "lon": 121.4780}
# Each occurs nowhere else; numbers are searched for as people dial them.
MARKERS = {
    "name of the customer": "Quuxolina Xyzzyberg",
    "phone of the customer": "13977735557",
    "phone of the sender": "13866624446",
    "name of the rider": "Plughard Waldorfson",
    "phone of the rider": "13755513335",
    "address": "Frobozz Lane 4711 behind the Grue",
    "note": "door code is FNORD-8823",
    "phone in a reason": "13644402224",
}
# To prove that the search would find what is there.
CONTROL = "customer-plover-1"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


TRACEPARENT = f"00-{7:032x}-{9:016x}-01"


class City:
    def __init__(self, folder, collector):
        self.collector = collector
        self.secrets = {}
        self.folder = folder
        folder.mkdir()
        (folder / "dispatch.yaml").write_text(
            "policy:\n  tick_ms: 300\n  complete_after_ms: 500\n  offer_ms: 60000\n"
        )
        environment = {k: v for k, v in os.environ.items() if not k.startswith("HEXRUN_")}
        self.http, self.stream = free_port(), free_port()
        environment |= {"HEXRUN_HTTP_PORT": str(self.http), "HEXRUN_STREAM_PORT": str(self.stream)}
        environment |= {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address}
        self.said = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "up", "--data", str(folder)],
            cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()
        until = time.monotonic() + START_LIMIT_S
        while not any("is up at" in line for line in self.said):
            assert self.process.poll() is None, self.said
            assert time.monotonic() < until, self.said
            time.sleep(0.1)
        self.tokens = Tokens((folder / "secret").read_text().strip())

    def _listen(self):
        self.said.extend(iter(self.process.stdout.readline, ""))

    def token(self, role, sub):
        token = self.tokens.mint(sub=sub, role=role)
        # Its signature is what makes it good.
        self.secrets[f"token {len(self.secrets)} of {sub}"] = token.rsplit(".", 1)[1]
        return token

    def client(self, role, sub):
        token = self.token(role, sub)
        headers = {"Authorization": f"Bearer {token}"}
        return httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.http}", headers=headers)

    def sockets(self):
        status = json.loads((self.folder / "run" / "status.json").read_text())
        return Path(status["sockets"])

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


@pytest.fixture(scope="module")
def city(tmp_path_factory, collecting):
    folder = tmp_path_factory.mktemp("privacy")
    for level in (folder, folder.parent):
        level.chmod(0o755)  # as root, PostgreSQL's user must pass
    with collecting() as collector:
        city = City(folder / "data", collector)
        yield city
        city.end()


@pytest.fixture(scope="module")
def seen(city):
    asyncio.run(use_an_api_key(city))
    return asyncio.run(live_one_order(city))


def order_form():
    there = {"lat": 31.2340, "lon": 121.4790, "text": MARKERS["address"]}
    contact = {
        "name": MARKERS["name of the customer"],
        "phone": "+86 " + MARKERS["phone of the customer"],
    }
    return {
        "stops": [
            {"place": HERE, "contact": {"phone": MARKERS["phone of the sender"]}},
            {"place": there, "contact": contact},
        ],
        "note": MARKERS["note"],
    }


async def live_one_order(city):
    """Place, refuse, offer, decline, accept, serve, complete; who saw what on the way."""
    seen = {}
    rider, customer = city.client("rider", "r1"), city.client("customer", CONTROL)
    async with rider, customer:
        me = {
            "id": "r1",
            "name": MARKERS["name of the rider"],
            "phone": MARKERS["phone of the rider"],
        }
        assert (await rider.post("/v1/riders", json=me)).status_code == 200
        on = {"on": True, "shift_end_ms": int(time.time() * 1000) + 3_600_000}
        on["place"] = HERE | {"text": MARKERS["address"]}
        assert (await rider.post("/v1/riders/r1/shift", json=on)).status_code == 200
        wrong = order_form() | {"note": MARKERS["note"] * 50}
        for key, body in (("w1", json.dumps(wrong)), ("w2", json.dumps(order_form())[:-3])):
            headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
            refused = await customer.post("/v1/orders", content=body, headers=headers)
            assert refused.status_code == 422
        ids = []
        for key in ("k1", "k2"):
            headers = {"Idempotency-Key": key, "traceparent": TRACEPARENT}
            placed = await customer.post("/v1/orders", json=order_form(), headers=headers)
            assert placed.status_code == 201, placed.text
            ids.append(placed.json()["id"])
        reason = {"reason": f"call me on {MARKERS['phone in a reason']}"}
        cancelled = await customer.post(f"/v1/orders/{ids[1]}/cancel", json=reason)
        seen["reason"] = cancelled.json()["ended_reason"]
        order_id = ids[0]
        path = f"/v1/orders/{order_id}"

        seen["order id"] = order_id
        token = city.token("rider", "r1")
        async with asyncio.timeout(LIMIT_S):
            async with connect(f"ws://127.0.0.1:{city.stream}/v1/stream?token={token}") as phone:
                count = itertools.count()

                async def say(**frame):
                    await phone.send(json.dumps(frame))

                async def hear(kind, where=lambda frame: True):
                    while True:
                        frame = json.loads(await phone.recv())
                        if frame["type"] == kind and where(frame):
                            return frame

                async def act(**frame):
                    await say(action_id=f"a{next(count)}", **frame)
                    assert (await hear("result"))["ok"]

                await say(type="hello")
                fix = {"seq": 0, "at_ms": int(time.time() * 1000), **HERE, "system": "gcj02"}
                await say(type="fixes", fixes=[fix])
                offer = await hear("offer", lambda frame: frame["order_id"] == order_id)
                seen["offer"] = offer["stops"]
                seen["order offered"] = (await rider.get(path)).json()
                await act(type="accept", order_id=order_id, number=offer["number"])
                route = await hear("route", lambda frame: len(frame["stops"]) == 2)
                seen["route"] = route["stops"]
                seen["order accepted"] = (await rider.get(path)).json()
                seen["rider calls"] = (await rider.get(path + "/contacts")).json()["contacts"]
                seen["customer calls"] = (await customer.get(path + "/contacts")).json()["contacts"]
                for stop, state in itertools.product((0, 1), ("heading", "arrived", "done")):
                    at_ms = int(time.time() * 1000)
                    await act(type="stop", order_id=order_id, stop=stop, state=state, at_ms=at_ms)
            while (order := (await customer.get(path)).json())["state"] != "completed":
                await asyncio.sleep(0.1)
        seen["order at last"] = order
    return seen


async def use_an_api_key(city):
    """Made on the command line and over HTTP, exchanged for a token, and used wrongly."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEXRUN_")}
    line = [sys.executable, "-m", "api.cli", "key", "create", "--role", "operator", "--sub", "op"]
    made = subprocess.run(
        [*line, "--data", str(city.folder)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    base = f"http://127.0.0.1:{city.http}"
    async with httpx2.AsyncClient(base_url=base) as server:
        server.headers["Authorization"] = f"Bearer {made}"
        asked = {"role": "customer", "sub": CONTROL}
        exchanged = await server.post("/v1/tokens", json=asked)
        assert exchanged.status_code == 201, exchanged.text
        server.headers["Authorization"] = f"Bearer {made}x"
        assert (await server.post("/v1/tokens", json=asked)).status_code == 401
    city.secrets |= {
        "API key": made,
        "exchanged token": exchanged.json()["token"].rsplit(".", 1)[1],
        "secret of the folder": (city.folder / "secret").read_text().strip(),
    }


def secrets_in(city, text):
    data = text if isinstance(text, bytes) else text.encode()
    return [what for what, secret in city.secrets.items() if secret.encode() in data]


def hexrun_keys(city, *args):
    """(exit code, word, word, ...) of `hexrun data-keys` on the running system's folder."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HEXRUN_")}
    line = [sys.executable, "-m", "api.cli", "data-keys", *args, "--data", str(city.folder)]
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return [done.returncode, *done.stdout.split()]


async def everything_stored(city):
    """(where, text) of every row of every table and of every key of Redis."""
    folder = city.sockets()
    url = f"postgresql://hexrun@/hexrun?host={quote(str(folder / 'pg'))}"
    database = await asyncpg.connect(url)
    found = []
    for table in metadata.tables:
        for row in await database.fetch(f"SELECT t::text AS row FROM {table} AS t"):
            found.append((table, row["row"]))
    await database.close()
    pool = redis.asyncio.from_url(f"unix://{folder / 'valkey.sock'}")
    reads = {
        b"string": lambda key: pool.get(key),
        b"hash": lambda key: pool.hgetall(key),
        b"set": lambda key: pool.smembers(key),
        b"list": lambda key: pool.lrange(key, 0, -1),
        b"zset": lambda key: pool.zrange(key, 0, -1, withscores=True),
        b"stream": lambda key: pool.xrange(key),
    }
    async for key in pool.scan_iter():
        found.append(("redis", repr((key, await reads[await pool.type(key)](key)))))
    await pool.aclose()
    return found


def hidden_in(text):
    """Which markers the text holds, as they are or as PostgreSQL shows bytes."""
    data = text if isinstance(text, bytes) else text.encode()
    return [
        what
        for what, marker in MARKERS.items()
        if marker.encode() in data or marker.encode().hex().encode() in data
    ]


def test_personal_data_are_shown_to_who_needs_them_and_are_nowhere_in_the_clear(city, seen):
    address, note = MARKERS["address"], MARKERS["note"]
    whole, phone = seen["order at last"], MARKERS["phone of the customer"]
    assert whole["stops"][1]["place"]["text"] == address
    assert whole["stops"][1]["contact"]["phone"] == "+86" + phone
    assert whole["note"] == note
    assert [stop["text"] for stop in seen["offer"]] == ["", ""]
    assert hidden_in(json.dumps(seen["order offered"])) == []
    assert [stop["text"] for stop in seen["route"]] == ["", address]
    assert hidden_in(json.dumps(seen["order accepted"])) == ["address", "note"]
    assert seen["order accepted"]["stops"][1]["contact"] == {"name": "Q.", "phone": ""}
    numbers = {p["party"]: p["masked_number"] for p in seen["rider calls"]}
    assert numbers.keys() == {"stop:0", "stop:1"}
    assert {p["party"]: p["name"] for p in seen["customer calls"]}["rider"] == "P."
    assert hidden_in(json.dumps([seen["rider calls"], seen["customer calls"]])) == []
    assert all(number.startswith("+999") for number in numbers.values())
    assert seen["reason"] == "call me on ***"

    _, key_id, rows = hexrun_keys(city, "list")
    assert int(rows) == 4  # two orders, the rider, and the key of the digests
    assert hexrun_keys(city, "remove", key_id)[0] == 2

    stored = asyncio.run(everything_stored(city))
    assert {where for where, text in stored if CONTROL in text} >= {"orders", "events", "redis"}
    assert [(where, what) for where, text in stored for what in hidden_in(text)] == []
    assert [(where, what) for where, text in stored for what in secrets_in(city, text)] == []

    city.end()  # whatever was still in memory is on the disk now
    files = [path for path in city.folder.rglob("*") if path.is_file()]
    for folder in ("postgres", "segments", "journal", "logs"):
        assert any(folder in path.parts for path in files), folder
    journals = [path for path in files if "journal" in path.parts]
    assert any(CONTROL.encode() in path.read_bytes() for path in journals)
    leaks = [(str(path), what) for path in files for what in hidden_in(path.read_bytes())]
    assert leaks == []
    assert hidden_in("".join(city.said)) == []
    assert len(city.secrets) >= 6
    leaks = [(str(p), what) for p in files for what in secrets_in(city, p.read_bytes())]
    assert leaks == [(str(city.folder / "secret"), "secret of the folder")]
    assert secrets_in(city, "".join(city.said)) == []


def test_logs_are_json_lines_that_name_their_role(city, seen):
    city.end()
    for role in ("http", "gateway", "sequencer", "dispatcher", "webhooks"):
        said = {json.loads(line)["role"] for line in lines_of(city, role)}
        assert said <= {role, "solver"}
    assert json.loads(lines_of(city, "dispatcher")[0])["event"] == "city_taken"


def lines_of(city, role):
    return (city.folder / "logs" / f"{role}.log").read_text().splitlines()


def test_one_trace_goes_from_the_call_to_the_rider_s_answer(city, seen):
    city.end()  # what a process has not sent yet it sends when it ends
    spans = city.collector.spans
    place = next(span for _, span in spans if span.name == "place" and is_of(span, seen))
    trace = [(role, span) for role, span in spans if span.trace_id == place.trace_id]
    first = {span.name: (role, span) for role, span in reversed(trace)}
    assert {name: first[name][0] for name in ("place", "offer", "offer_told", "accept")} == {
        "place": "hexrun-http",
        "offer": "hexrun-dispatcher",
        "offer_told": "hexrun-gateway",
        "accept": "hexrun-gateway",
    }
    assert {"head", "arrive", "finish_stop"} <= first.keys()
    assert all(span.parent_span_id == place.span_id for _, span in trace if span is not place)
    assert [int.from_bytes(link.trace_id) for link in place.links] == [7]
    offer, accept = first["offer"][1], first["accept"][1]
    rounds = {span.span_id: facts(span) for _, span in spans if span.name == "round"}
    (link,) = offer.links
    assert rounds[link.span_id]["orders"] >= 1
    assert rounds[link.span_id]["solver"] in ("matching", "greedy")
    # From the placing on, which the machine's clock may show a little otherwise.
    assert abs(offer.start_time_unix_nano - place.start_time_unix_nano) < 1e9
    assert offer.end_time_unix_nano <= accept.end_time_unix_nano
    assert facts(accept) == {"order": seen["order id"], "rider": "r1", "outcome": "ok"}
    texts = [str(span) for _, span in spans]
    assert [what for text in texts for what in hidden_in(text) + secrets_in(city, text)] == []
    assert not [span.name for _, span in spans if "fix" in span.name]


def facts(span):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in span.attributes}


def is_of(span, seen):
    return facts(span)["order"] == seen["order id"]
