"""Every error as `{"error": {code, message, field, value, expected}}`; may import FastAPI."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import Counter
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.store import UNAVAILABLE
from dispatch.transitions import Refusal
from geo.errors import (
    Conflict,
    Forbidden,
    HexrunError,
    IllegalMove,
    InvalidValue,
    NotFound,
    Overloaded,
    RateLimited,
    Unauthorised,
    Unavailable,
)

_UNAVAILABLE = Counter("hexrun_http_unavailable_total", "answers of 503 by reason", ["reason"])

VALUE_CHARS_MAX = 200
_METHODS = ("GET", "POST", "PATCH", "DELETE")

# The first that fits; what is not listed is our own fault.
_STATUS: tuple[tuple[type[HexrunError], int], ...] = (
    (InvalidValue, 422),
    (Unauthorised, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (IllegalMove, 409),
    (RateLimited, 429),
    (Unavailable, 503),
)
_HEADERS = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}
_CODES = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}

ERROR_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "field", "value", "expected"],
            "properties": {
                "code": {"type": "string"},
                "message": {"type": "string"},
                "field": {"type": ["string", "null"]},
                "value": {},
                "expected": {"type": ["string", "null"]},
            },
        }
    },
}
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR_SCHEMA}}}
    for status, text in (
        (401, "no token, or one that is not valid"),
        (403, "the token does not reach this"),
        (404, "no such object"),
        (409, "refused as things stand; `code` says why"),
        (413, "the body is too long"),
        (415, "the body is not announced as application/json"),
        (422, "a value that cannot be right; `field` names it"),
        (429, "too many requests; `Retry-After` says in how many seconds again"),
        (503, "a server that is needed does not answer, or there is no room; ask again"),
    )
}


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    field: str | None = None,
    value: object = None,
    expected: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The one shape of an error."""
    body = {
        "code": code,
        "message": message,
        "field": field,
        "value": _shown(value),
        "expected": expected,
    }
    return JSONResponse({"error": body}, status, {**_HEADERS.get(status, {}), **(headers or {})})


def refusal_response(refusal: Refusal) -> JSONResponse:
    """A command that was refused: 409 with the refusal's own code."""
    return error_response(409, refusal.code, refusal.message)


def overloaded_response(error: Overloaded) -> JSONResponse:
    """503: there is no room for it now; nothing was done."""
    _UNAVAILABLE.labels(error.what).inc()
    return error_response(503, code_of(error), str(error))


def code_of(error: HexrunError) -> str:
    """`InvalidValue` -> `invalid_value`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__).lower()


def install(app: FastAPI) -> None:
    """Answer every error that a route can raise in the one shape."""
    app.add_exception_handler(HexrunError, _hexrun_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    for kind in UNAVAILABLE:
        if not issubclass(kind, HexrunError):
            app.add_exception_handler(kind, _unavailable)
    app.add_exception_handler(Exception, _bug)


async def _hexrun_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HexrunError)
    return response_of(error)


def response_of(error: HexrunError) -> JSONResponse:
    """The answer to an error of our own tree."""
    if isinstance(error, Overloaded):
        return overloaded_response(error)
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if status == 500:
        return _bug_response()
    if status == 503:
        _UNAVAILABLE.labels("store").inc()
    return error_response(
        status,
        code_of(error),
        str(error),
        field=getattr(error, "field", None),
        value=getattr(error, "value", None),
        expected=getattr(error, "expected", None),
        headers=_retry_after(error),
    )


def _retry_after(error: HexrunError) -> dict[str, str]:
    seconds = getattr(error, "retry_after_s", None)
    return {} if seconds is None else {"Retry-After": str(seconds)}


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong, as our own checks would say it."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return error_response(422, "invalid_value", f"the body is not JSON: {first['msg']}")
    kind = request.headers.get("content-type")
    if first["loc"] == ("body",) and isinstance(first.get("input"), bytes):
        expected = "application/json"
        shown = "is missing" if kind is None else f"{kind!r} is not valid"
        message = f"Content-Type: {shown}, expected {expected}"
        return error_response(
            415, "unsupported_media_type", message, field="Content-Type", value=kind,
            expected=expected,
        )  # fmt: skip
    field = _path(first["loc"])
    code = "unknown_key" if first["type"] == "extra_forbidden" else "invalid_value"
    value = None if first["type"] == "missing" else first.get("input")
    expected = _expected(first["msg"])
    shown = "is missing" if first["type"] == "missing" else f"{_shown(value)!r} is not valid"
    return error_response(
        422, code, f"{field}: {shown}, expected {expected}", field=field, value=value,
        expected=expected,
    )  # fmt: skip


def _path(loc: tuple[int | str, ...]) -> str:
    """("body", "stops", 0, "place") -> "stops[0].place"."""
    path = ""
    for part in loc[1:]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path or str(loc[0])


def _expected(message: str) -> str:
    for start in ("Input should be ", "String should ", "Value error, "):
        if message.startswith(start):
            rest = message[len(start) :]
            return f"text to {rest}" if start.startswith("String") else rest
    return {"Field required": "a value", "Extra inputs are not permitted": "no such key"}.get(
        message, message
    )


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 400:  # the framework's, for a body that its parser gave up
        why = "it is not UTF-8, or nested too deeply"
        return error_response(422, "invalid_value", f"the body is not JSON: {why}")
    code = _CODES.get(error.status_code, "http_error")
    message = f"{request.method} {request.url.path}: {error.detail}"
    headers = _allow(request) if error.status_code == 405 else error.headers
    return error_response(error.status_code, code, message, headers=headers)


def _allow(request: Request) -> dict[str, str]:
    """The methods of all routes of this path: the framework names those of the first alone."""
    scopes = {method: {**request.scope, "method": method} for method in _METHODS}
    routes = request.app.routes
    known = [m for m in _METHODS if any(r.matches(scopes[m])[0] is Match.FULL for r in routes)]
    return {"Allow": ", ".join(known)}


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    _UNAVAILABLE.labels("store").inc()
    return error_response(503, "unavailable", f"a server that is needed does not answer: {error}")


async def _bug(request: Request, error: Exception) -> JSONResponse:
    return _bug_response()


def _bug_response() -> JSONResponse:
    return error_response(500, "internal", "an error of ours; it is in the log")


def _shown(value: object) -> str | int | float | bool | None:
    """A value as JSON can carry it, and short."""
    if (
        value is None
        or isinstance(value, bool | int)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    text = value if isinstance(value, str) else repr(value)
    text = text.encode("utf-8", "replace").decode()
    return text if len(text) <= VALUE_CHARS_MAX else text[:VALUE_CHARS_MAX] + "…"
