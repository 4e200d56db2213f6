"""Personal data that occur nowhere else, so that a search finds whatever of them lies in the clear.

Imports nothing: the clients send them, the checker looks for them.
"""

from __future__ import annotations

from typing import Any

NAME, ADDRESS, NOTE, PHONE = "Xyzzyberg", "Frobozz Lane", "FNORD-88", "1397773"
MARKERS = (NAME, ADDRESS, NOTE, PHONE)


def contact(number: int) -> dict[str, Any]:
    """A name and a phone, each with its marker."""
    return {"name": f"Quux {NAME} {number}", "phone": phone(number)}


def phone(number: int) -> str:
    return f"{PHONE}{number % 10_000:04}"


def address(number: int) -> str:
    return f"{ADDRESS} {number}, ring twice"


def note(number: int) -> str:
    return f"the door code is {NOTE}{number}"
