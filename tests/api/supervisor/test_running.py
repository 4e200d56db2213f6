"""Who runs on a data folder is read from PostgreSQL's own note."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.supervisor import running_postgres
from geo.errors import StartupError

NOTE = "4711\n/data/postgres/data\n1790000000\n5432\n/tmp/hexrun-a b/pg\n\n  1 2\nready\n"


def test_the_note_names_the_socket(tmp_path: Path) -> None:
    note = tmp_path / "postgres" / "data" / "postmaster.pid"
    note.parent.mkdir(parents=True)
    for torn in (None, "", "4711\n/data\n"):
        if torn is not None:
            note.write_text(torn)
        with pytest.raises(StartupError, match="hexrun up --data"):
            running_postgres(tmp_path, {})
    note.write_text(NOTE)
    url = "postgresql://hexrun@/hexrun?host=/tmp/hexrun-a%20b/pg&port=5432"
    assert running_postgres(tmp_path, {}) == url
    named = {"HEXRUN_POSTGRES_URL": "postgresql://elsewhere/x"}
    assert running_postgres(tmp_path, named) == "postgresql://elsewhere/x"
