"""The committed bundle: that of the sources beside it, small, asking nothing of other hosts."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

CONSOLE = Path(__file__).parents[3] / "api" / "console"
DIST = CONSOLE / "dist"
SUMS = DIST / "SOURCE.sha256"
SOURCES = ("build.mjs", "index.html", "package-lock.json", "package.json", "tsconfig.json")
SCRIPT_BYTES_MAX = 400_000
ALL_BYTES_MAX = 1_048_576


def stale(console: Path) -> list[str]:
    """The files that are not as they were when the bundle was built, or came or went since."""
    lines = (console / "dist" / "SOURCE.sha256").read_text().splitlines()
    built = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    there = {*SOURCES}
    for folder in ("src", "dist"):
        there |= {f"{folder}/{path.name}" for path in (console / folder).iterdir()}
    there -= {"dist/SOURCE.sha256"}
    changed = {
        name
        for name in there & set(built)
        if hashlib.sha256((console / name).read_bytes()).hexdigest() != built[name]
    }
    return sorted(changed | (there ^ set(built)))


def test_the_bundle_is_that_of_the_sources() -> None:
    assert stale(CONSOLE) == [], "run `make console` and commit api/console/dist"


@pytest.mark.parametrize("change", ["src/main.ts", "src/added.ts", "dist/app.js", "package.json"])
def test_a_change_without_a_build_shows(tmp_path: Path, change: str) -> None:
    for folder in ("src", "dist"):
        (tmp_path / folder).mkdir()
        for path in (CONSOLE / folder).iterdir():
            (tmp_path / folder / path.name).write_bytes(path.read_bytes())
    for name in SOURCES:
        (tmp_path / name).write_bytes((CONSOLE / name).read_bytes())
    with (tmp_path / change).open("ab") as file:
        file.write(b"\n")
    assert stale(tmp_path) == [change]


def test_it_is_small() -> None:
    assert (DIST / "app.js").stat().st_size < SCRIPT_BYTES_MAX
    assert sum(path.stat().st_size for path in DIST.iterdir()) < ALL_BYTES_MAX


def test_it_names_no_other_host() -> None:
    """The one address in it is a name, not a place: that of the SVG elements."""
    allowed = {"http://www.w3.org/2000/svg"}
    for name in ("index.html", "app.css", "app.js", "icon.svg"):
        text = (DIST / name).read_text(encoding="utf-8")
        found = set(re.findall(r"(?:https?|wss?)://\w[^\s\"'`)<>]+", text))
        assert found <= allowed, name
    page = (DIST / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=\"(?!(?:app\.js|app\.css|icon\.svg)\")", page)


def test_the_packages_are_exact_and_bound_to_no_registry() -> None:
    package = json.loads((CONSOLE / "package.json").read_text())
    for version in (package["dependencies"] | package["devDependencies"]).values():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    lock = json.loads((CONSOLE / "package-lock.json").read_text())
    assert [name for name, entry in lock["packages"].items() if "resolved" in entry] == []


def test_the_licences_of_what_is_inside_are_with_it() -> None:
    notices = (DIST / "THIRD_PARTY.txt").read_text(encoding="utf-8")
    for words in ("h3-js", "Apache License", "@fontsource-variable/inter", "SIL OPEN FONT LICENSE"):
        assert words in notices
