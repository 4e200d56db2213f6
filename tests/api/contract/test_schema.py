"""What `GET /openapi.json` says is what the application answers, to whatever it is asked.

Every operation is asked with generated values, right and wrong, by every role, on objects that
exist and that do not: no 5xx, no status that is not described, every body of its schema.
"""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

TABLE = runpy.run_path(str(Path(__file__).parents[1] / "auth" / "matrix.py"))
HIDDEN = {"GET /", "GET /console", "GET /console/{path:path}", "GET /openapi.json", "GET /metrics"}
OPERATIONS = sorted((set(TABLE["ROUTES"]) | TABLE["PUBLIC"]) - HIDDEN)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FEW, MANY = 5, 400


@pytest.fixture(scope="module")
def described(server: Any) -> Any:
    return schemathesis.openapi.from_url(server.url + "/openapi.json")


@pytest.fixture
def known(server: Any) -> Iterator[dict[str, list[str]]]:
    """Objects that exist, made for this operation: some of them end in it."""
    hall = server.order(matching="hall")
    endpoint = server.made("integrator", "/v1/webhooks", {"url": "http://127.0.0.1:9/hook"})
    key = server.made("operator", "/v1/keys", {"role": "integrator", "sub": "me"})
    yield {
        "order_id": [server.order(), hall],
        "rider_id": ["me"],
        "endpoint_id": [endpoint["id"]],
        "key_id": [key["id"]],
        "city": ["demo"],
        "position": ["1"],
    }
    for left in server.ask("operator", "GET", "/v1/webhooks").json()["webhooks"]:
        server.ask("operator", "DELETE", f"/v1/webhooks/{left['id']}")


def bearers(server: Any, name: str) -> list[str]:
    """Everybody, and more often who may."""
    own = TABLE["ROUTES"].get(name, ("",))[0].split()
    may = [
        role for role, status in zip(TABLE["ROLES"], own, strict=False) if status.startswith("2")
    ]
    return [*server.bearers, *may * 3]


def test_every_operation_is_asked(described: Any) -> None:
    raw = described.raw_schema["paths"]
    assert sorted(f"{m.upper()} {path}" for path, item in raw.items() for m in item) == OPERATIONS


def ask_many(server: Any, described: Any, known: Any, name: str, examples: int) -> None:
    method, _, path = name.partition(" ")
    operation = described[path][method]
    cases = st.one_of(
        operation.as_strategy(generation_mode=GenerationMode.POSITIVE),
        operation.as_strategy(generation_mode=GenerationMode.NEGATIVE),
    )

    @seed(7)
    @settings(
        max_examples=examples, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def run(data: st.DataObject) -> None:
        case = data.draw(cases)
        who = data.draw(st.sampled_from(bearers(server, name)))
        for parameter in case.path_parameters or {}:
            values = [*known.get(parameter, []), None]
            given_id = data.draw(st.sampled_from(values))
            if given_id is not None:
                case.path_parameters[parameter] = given_id
        headers = {"Authorization": f"Bearer {server.bearers[who]}"}
        response = case.call(base_url=server.url, headers=headers, timeout=30)
        case.validate_response(response, checks=CHECKS)
        body = case.meta.components.get(ParameterLocation.BODY)
        if body is not None and body.mode.is_negative:
            assert response.status_code >= 400, (case.body, response.text)

    run()


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation(server: Any, described: Any, known: Any, name: str) -> None:
    ask_many(server, described, known, name, FEW)


@pytest.mark.long
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_at_length(server: Any, described: Any, known: Any, name: str) -> None:
    ask_many(server, described, known, name, MANY)
