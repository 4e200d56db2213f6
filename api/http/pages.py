"""How lists that grow are asked, page by page; imports FastAPI."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

LIMIT = 100
LIMIT_MAX = 1_000
POSITION_MAX = 2**63 - 1

After = Annotated[int, Query(ge=0, le=POSITION_MAX)]
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX)]
