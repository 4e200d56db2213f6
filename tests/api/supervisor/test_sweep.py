"""Old segments and journals go, but never one that somebody may still write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from api.supervisor.sweep import sweep, sweep_once

DAY_MS = 86_400_000
NOW_MS = 1_790_000_000_000
BEFORE_MS = NOW_MS - 7 * DAY_MS


def made(folder: Path, name: str, days_old: float) -> None:
    (folder / name).write_bytes(b"x")
    written_s = (NOW_MS - days_old * DAY_MS) / 1000
    os.utime(folder / name, (written_s, written_s))


@pytest.mark.parametrize(
    ("held_days", "left"),
    [
        # Held for a month: a quiet gateway may have its old segment open all that time.
        (30, ["a-3.seg", "b-1.seg", "demo-2.journal", "notes.txt"]),
        # Held since yesterday: nobody has those open.
        (1, ["a-3.seg", "notes.txt"]),
    ],
)
def test_what_is_closed_and_old_goes(tmp_path: Path, held_days: int, left: list[str]) -> None:
    for name, days_old in (
        ("a-1.seg", 20),
        ("a-2.seg", 8),
        ("a-3.seg", 6),
        ("b-1.seg", 9),
        ("demo-1.journal", 9),
        ("demo-2.journal", 8),
        ("notes.txt", 99),
    ):
        made(tmp_path, name, days_old)
    sweep(tmp_path, BEFORE_MS, NOW_MS - held_days * DAY_MS)
    assert sorted(p.name for p in tmp_path.iterdir()) == left


def test_a_closed_one_that_is_young_stays(tmp_path: Path) -> None:
    made(tmp_path, "a-1.seg", 6.9)
    made(tmp_path, "a-2.seg", 0)
    assert sweep(tmp_path, BEFORE_MS, NOW_MS) == []


def test_without_a_holder_what_is_open_stays(tmp_path: Path) -> None:
    """The last of a writer that is no more goes; a quiet writer's stays, however old."""
    for folder in ("segments", "journal"):
        (tmp_path / folder).mkdir()
    for name in ("segments/a-1.seg", "segments/b-1.seg", "journal/demo-1.journal"):
        made(tmp_path, name, 30)
    (tmp_path / "segments" / "c-1.seg").write_bytes(b"young")
    with (tmp_path / "segments" / "b-1.seg").open("ab"):
        assert sorted(sweep_once(tmp_path, 7)) == ["a-1.seg", "demo-1.journal"]
    assert sweep_once(tmp_path, 7) == ["b-1.seg"]
    assert sweep_once(tmp_path / "none", 7) == []
