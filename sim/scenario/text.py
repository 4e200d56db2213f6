"""The text of a file that must be UTF-8; imports the errors only."""

from __future__ import annotations

from pathlib import Path

from geo.errors import InvalidValue


def utf8_text(path: Path, what: str = "YAML") -> str:
    """The whole file; InvalidValue, naming it, for bytes that are no text or cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        where = f"{path} line {line}"
        raise InvalidValue(where, "bytes that are no text", f"{what} in UTF-8") from None
    except OSError as error:
        raise InvalidValue(str(path), error.strerror or str(error), "a file to read") from None
