"""Webhook endpoints over HTTP: who may, what is refused, the secret, the probe, the lists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import asyncpg
import httpx2
import pytest

from api.clock import now_ms
from api.settings import Settings, WebhookSettings
from api.store import Store
from api.store.webhook_sending import Behind, Dead, Progress, Subject
from api.webhooks import verify

Client = httpx2.AsyncClient
ClientAs = Callable[..., Client]
URL = "https://93.184.216.34/hook"


@pytest.fixture
def erp(client_as: ClientAs) -> Client:
    """An integrator."""
    return client_as("integrator", "erp")


async def made(client: Client, **changes: Any) -> dict[str, Any]:
    response = await client.post("/v1/webhooks", json={"url": URL} | changes)
    assert response.status_code == 201, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_its_life(erp: Client, store: Store) -> None:
    first = await made(erp, description="till", kinds=["placed"], coordinate_system="wgs84")
    assert first.pop("secret").startswith("whsec_")
    at = f"/v1/webhooks/{first['id']}"
    assert (await erp.get(at)).json() == first
    second = await made(erp, after=0)
    every = (await erp.get("/v1/webhooks")).json()["webhooks"]
    assert [e["id"] for e in every] == [first["id"], second["id"]]
    assert "secret" not in every[1]
    changed = await erp.patch(at, json={"kinds": None, "description": ""})
    assert changed.json() == first | {"kinds": None, "description": ""}
    assert (await erp.patch(at, json={})).json() == changed.json()
    paused = (await erp.post(f"{at}/pause")).json()
    assert (paused["state"], paused["paused_reason"]) == ("paused", "asked")
    assert (await erp.post(f"{at}/pause")).json() == paused
    resumed = (await erp.post(f"{at}/resume")).json()
    assert (resumed["state"], resumed["paused_reason"]) == ("active", None)
    assert (await erp.post(f"{at}/resume")).json() == resumed
    assert (await erp.delete(at)).status_code == 204
    for response in (await erp.get(at), await erp.delete(at)):
        assert response.status_code == 404
    assert len((await erp.get("/v1/webhooks")).json()["webhooks"]) == 1


async def test_a_rotated_secret(erp: Client) -> None:
    first = await made(erp)
    at = f"/v1/webhooks/{first['id']}/rotate-secret"
    before_ms = now_ms()
    second = (await erp.post(at, json={"grace_s": 60})).json()
    assert second["secret"] != first["secret"]
    assert second["key_id"] != first["key_id"]
    assert before_ms + 60_000 <= second["old_key_until_ms"] <= now_ms() + 60_000
    day = (await erp.post(at, json={})).json()
    assert day["old_key_until_ms"] >= before_ms + 86_400_000
    assert (await erp.post(at, json={"grace_s": 8 * 86_400})).status_code == 422


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({}, "url"),
        ({"url": "http://hooks.example.com/"}, "url"),
        ({"url": "https://127.0.0.1/"}, "url"),
        ({"url": "https://[::ffff:10.0.0.1]/"}, "url"),
        ({"url": "https://localhost/"}, "url"),
        ({"url": "https://nobody.invalid/"}, "url"),
        ({"url": URL, "kinds": []}, "kinds"),
        ({"url": URL, "kinds": ["gone"]}, "kinds[0]"),
        ({"url": URL, "coordinate_system": "utm"}, "coordinate_system"),
        ({"url": URL, "after": -1}, "after"),
        ({"url": URL, "after": 1}, "after"),
        ({"url": URL, "secret": "mine"}, "secret"),
        ({"url": URL, "description": "\x00"}, "description"),
    ],
)
async def test_refused(erp: Client, form: dict[str, Any], field: str) -> None:
    response = await erp.post("/v1/webhooks", json=form)
    assert response.status_code == 422
    assert response.json()["error"]["field"] == field
    assert (await erp.get("/v1/webhooks")).json() == {"webhooks": []}


@pytest.mark.parametrize("change", [{"url": None}, {"url": "https://10.0.0.1/"}, {"state": "x"}])
async def test_a_change_that_is_refused(erp: Client, change: dict[str, Any]) -> None:
    endpoint = await made(erp)
    response = await erp.patch(f"/v1/webhooks/{endpoint['id']}", json=change)
    assert response.status_code == 422


ROUTES = (
    ("GET", ""),
    ("PATCH", ""),
    ("DELETE", ""),
    ("POST", "/rotate-secret"),
    ("POST", "/pause"),
    ("POST", "/resume"),
    ("POST", "/probe"),
    ("GET", "/dead-letters"),
    ("POST", "/dead-letters/retry"),
    ("POST", "/dead-letters/1/retry"),
    ("GET", "/deliveries"),
)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_who_may(client_as: ClientAs, erp: Client, method: str, path: str) -> None:
    endpoint = await made(erp)
    at = f"/v1/webhooks/{endpoint['id']}{path}"
    body = {"description": "taken"} if method == "PATCH" else {}
    for role in ("integrator", "operator"):
        stranger = client_as(role, "erp", tenant="else")
        response = await stranger.request(method, at, json=body)
        assert response.status_code == 404
        assert response.json()["error"]["code"] == "not_found"
    for role in ("customer", "merchant", "rider"):
        assert (await client_as(role).request(method, at, json=body)).status_code == 403
    assert (await client_as().request(method, at, json=body)).status_code == 401
    assert (await erp.get(f"/v1/webhooks/{endpoint['id']}")).json()["description"] == ""


async def test_the_description_names_every_route(client_as: ClientAs) -> None:
    paths = (await client_as().get("/openapi.json")).json()["paths"]
    found = {path for path in paths if path.startswith("/v1/webhooks")}
    one = "/v1/webhooks/{endpoint_id}"
    wanted = {one + path.replace("/1/", "/{position}/") for _, path in ROUTES}
    assert found == wanted | {"/v1/webhooks"}


async def test_making_and_listing_is_for_the_same(client_as: ClientAs, olga: Client) -> None:
    await made(olga)
    for role in ("customer", "merchant", "rider"):
        client = client_as(role)
        assert (await client.get("/v1/webhooks")).status_code == 403
        assert (await client.post("/v1/webhooks", json={"url": URL})).status_code == 403
    stranger = client_as("operator", "olga", tenant="else")
    assert (await stranger.get("/v1/webhooks")).json() == {"webhooks": []}


async def test_twenty_are_enough(client_as: ClientAs, erp: Client) -> None:
    answers = await asyncio.gather(
        *(erp.post("/v1/webhooks", json={"url": URL}) for _ in range(22))
    )
    assert sorted(a.status_code for a in answers) == [201] * 20 + [409] * 2
    await made(client_as("integrator", "erp", tenant="else"))


async def test_the_lists(
    erp: Client, anna: Client, store: Store, form: dict[str, Any], sequenced: Callable[[], Any]
) -> None:
    endpoint = await made(erp)
    for n in range(3):
        headers = {"Idempotency-Key": f"k{n}"}
        assert (await anna.post("/v1/orders", json=form, headers=headers)).status_code == 201
    await sequenced()
    # As a sender leaves it: up to 4 settled, but 2 is dead and the order at 3 is behind.
    sending = store.webhooks.sending
    (mine,) = await sending.take(1, 60_000)
    dead = await sending.entry(mine, 2)
    late = await sending.entry(mine, 3)
    assert dead is not None
    assert late is not None
    behind = Behind(
        subject=late.subject,
        position=3,
        attempts=2,
        tried_since_ms=1,
        next_at_ms=9,
        last_error="answered 500",
    )
    progress = Progress(
        cursor=4, failing_since_ms=None, behind=[behind], dead=[Dead(dead, 20, 5, "no answer")]
    )
    assert await sending.save(mine, progress)
    at = f"/v1/webhooks/{endpoint['id']}"
    listed = (await erp.get(f"{at}/deliveries")).json()
    assert [(d["position"], d["state"]) for d in listed["deliveries"]] == [
        (6, "waiting"),
        (5, "waiting"),
        (4, "waiting"),
        (3, "retrying"),
        (2, "dead"),
        (1, "delivered"),
    ]
    assert listed["next_before"] is None
    failing = listed["deliveries"][3]
    assert (failing["attempts"], failing["next_at_ms"]) == (2, 9)
    assert failing["last_error"] == "answered 500"
    assert failing["id"] == late.subject.id
    page = (await erp.get(f"{at}/deliveries", params={"limit": 2, "before": 5})).json()
    assert [d["position"] for d in page["deliveries"]] == [4, 3]
    assert page["next_before"] == 3
    letters = (await erp.get(f"{at}/dead-letters")).json()
    assert letters == {
        "dead_letters": [
            {
                "position": 2,
                "event_id": str(dead.event_id),
                "subject": "order",
                "id": dead.subject.id,
                "seq": 2,
                "kind": "opened",
                "attempts": 20,
                "dead_at_ms": 5,
                "last_error": "no answer",
                "retry_asked": False,
            }
        ],
        "next_after": 2,
        "more": False,
    }
    assert (await erp.post(f"{at}/dead-letters/3/retry")).status_code == 404
    assert (await erp.post(f"{at}/dead-letters/2/retry")).json() == {"asked": 1}
    assert await sending.asked([mine.id], 10) == [(mine.id, 2)]
    assert (await erp.post(f"{at}/dead-letters/retry")).json() == {"asked": 1}
    # Resuming gives what was failing all of its time again.
    await erp.post(f"{at}/pause")
    await erp.post(f"{at}/resume")
    (again,) = await sending.behind(mine.id)
    assert again == Behind(
        subject=Subject("order", late.subject.id),
        position=3,
        attempts=0,
        tried_since_ms=None,
        next_at_ms=0,
        last_error="answered 500",
    )


@pytest.fixture
def sequenced(store: Store) -> Callable[[], Any]:
    """Give positions to all that is committed."""

    async def sequence() -> None:
        session = await store.open_sequencing()
        try:
            assert await session.lock()
            while await session.take(100):
                pass
        finally:
            await session.close()

    return sequence


async def test_events_over_http_wait_for_no_transaction_and_skip_none(
    erp: Client,
    anna: Client,
    http_database: str,
    form: dict[str, Any],
    sequenced: Callable[[], Any],
) -> None:
    connection = await asyncpg.connect(http_database.replace("+asyncpg", "", 1))
    try:
        held = connection.transaction()
        await held.start()
        await connection.execute("SET session_replication_role = replica")
        late_id = await connection.fetchval(
            "INSERT INTO events"
            " (subject_kind, subject_id, seq, day, tenant, city, at_ms, kind, body)"
            " VALUES ('order', 'late', 1, 0, 'default', 'demo', 0, 'opened', '{}') RETURNING id"
        )
        await connection.execute("INSERT INTO outbox (event_id, day) VALUES ($1, 0)", late_id)
        placed = await anna.post("/v1/orders", json=form, headers={"Idempotency-Key": "k"})
        await sequenced()
        page = (await erp.get("/v1/events")).json()
        assert [e["id"] for e in page["events"]] == [placed.json()["id"]] * 2
        await held.commit()
        await sequenced()
        page = (await erp.get("/v1/events", params={"after": page["next_after"]})).json()
        assert [(e["id"], e["position"]) for e in page["events"]] == [("late", 3)]
    finally:
        await connection.close()


class TestProbe:
    """With receivers on loopback allowed."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return replace(settings, webhooks=WebhookSettings(allow_private=True))

    @pytest.fixture
    async def receiver(self) -> AsyncIterator[tuple[str, list[tuple[dict[str, str], bytes]]]]:
        got: list[tuple[dict[str, str], bytes]] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            pairs = [line.partition(": ") for line in lines[1:-2]]
            headers = {name.lower(): value for name, _, value in pairs}
            got.append((headers, await reader.readexactly(int(headers["content-length"]))))
            status = lines[0].split()[1].removeprefix("/").encode()
            writer.write(b"HTTP/1.1 %s X\r\nContent-Length: 6\r\n\r\nhidden" % status)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", got
        server.close()

    async def test_it_tells_what_came_of_it(self, erp: Client, receiver: Any) -> None:
        url, got = receiver
        endpoint = await made(erp, url=f"{url}/204")
        answer = (await erp.post(f"/v1/webhooks/{endpoint['id']}/probe")).json()
        assert answer.pop("latency_ms") >= 0
        assert answer == {"delivered": True, "status": 204, "error": None}
        ((headers, body),) = got
        assert verify(endpoint["secret"], headers, body, now_ms() / 1000)
        assert b'"kind":"probe"' in body

    @pytest.mark.parametrize("status", [302, 404, 500])
    async def test_an_answer_that_is_not_2xx(self, erp: Client, receiver: Any, status: int) -> None:
        endpoint = await made(erp, url=f"{receiver[0]}/{status}")
        response = await erp.post(f"/v1/webhooks/{endpoint['id']}/probe")
        assert (response.json()["delivered"], response.json()["status"]) == (False, status)
        assert "hidden" not in response.text

    async def test_nobody_there(self, erp: Client) -> None:
        endpoint = await made(erp, url="http://127.0.0.1:9/")
        answer = (await erp.post(f"/v1/webhooks/{endpoint['id']}/probe")).json()
        assert (answer["delivered"], answer["status"]) == (False, None)
        assert answer["error"] == "cannot connect"
