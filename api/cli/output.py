"""What commands print: results to stdout, in one line of JSON or as a table."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from geo.errors import CannotWrite
from sim.report import table, to_json_line


def say(text: str) -> None:
    """A line to stdout, at once. Raises CannotWrite for a full disk or a reader that has gone."""
    try:
        print(text, flush=True)
    except OSError as error:
        # What is left in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CannotWrite("standard output", error.strerror or str(error)) from None


def say_table(*parts: RenderableType) -> None:
    """Tables of rich to stdout, as `say`."""
    console = Console()
    with console.capture() as captured:
        console.print(*parts, sep="\n")
    say(captured.get().rstrip("\n"))


def show(title: str, shown: Mapping[str, Any], as_json: bool) -> None:
    """One JSON line, or a table with the digests whole under it. Raises as `say`."""
    if as_json:
        say(to_json_line(shown))
        return
    digests = {name: value for name, value in shown.items() if name.endswith("_sha256")}
    say_table(table(title, {n: v for n, v in shown.items() if n not in digests}))
    for name, value in digests.items():
        say(f"{name}  {value}")


def write_text(path: Path, text: str) -> None:
    """A whole file or none. Raises CannotWrite for what the disk refuses."""
    from sim.logs.writing import whole_files

    whole_files({path: text.encode()})
