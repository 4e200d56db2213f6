"""Finds the PostgreSQL that runs on a data folder; may import the error tree."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from api.supervisor.embedded import POSTGRES_VARIABLE
from geo.errors import StartupError


def running_postgres(data: Path, environ: Mapping[str, str] = os.environ) -> str:
    """The address of the PostgreSQL of the environment, or of the one on the folder `data`.

    Raises:
        StartupError: none runs there that this user may reach.
    """
    named = environ.get(POSTGRES_VARIABLE)
    if named:
        return named
    try:
        # PostgreSQL's own note: process, folder, start, port, folder of the socket, ...
        lines = (data / "postgres" / "data" / "postmaster.pid").read_text().splitlines()
        port, sockets = lines[3], lines[4]
    except (OSError, IndexError):
        raise no_postgres(data) from None
    return f"postgresql://hexrun@/hexrun?host={quote(sockets)}&port={port}"


def no_postgres(data: Path) -> StartupError:
    """What to say when nobody answers at `running_postgres`, or nobody is there."""
    return StartupError(
        f"{data}: no PostgreSQL answers there that this user may reach; start "
        f"'hexrun up --data {data}' first, or set {POSTGRES_VARIABLE}"
    )
