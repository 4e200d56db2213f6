"""Serves the operator's console, a folder of static files, where it has been built."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.responses import Response

from api.http.errors import error_response

DIST = Path(__file__).parents[1] / "console" / "dist"

# A browser runs a module only under this type, and not every system's table has it.
mimetypes.add_type("text/javascript", ".mjs")


def install(app: FastAPI, folder: Path = DIST) -> None:
    """`/` leads to `/console/`, which is `folder`, or a 404 that says what is missing."""

    @app.get("/", include_in_schema=False)
    async def root() -> Response:
        return RedirectResponse("/console/") if folder.is_dir() else _not_built()

    if folder.is_dir():
        app.mount("/console", StaticFiles(directory=folder, html=True))
        return

    @app.get("/console", include_in_schema=False)
    @app.get("/console/{path:path}", include_in_schema=False)
    async def missing(path: str = "") -> Response:
        return _not_built()


def _not_built() -> Response:
    message = "the console is not built: run `make console`, then start again"
    return error_response(404, "not_found", message)
