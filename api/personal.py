"""Personal data as values: contacts, addresses, notes, and how much of them who may see.

May import msgspec, dispatch's model and the error tree. None of it enters the engine: an order has
points, and this stands beside it. The values do not show themselves when they are printed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from dispatch.model import Order

NAME_CHARS_MAX = 64
PHONE = "a number such as 13812345678, 021-12345678 or +8613812345678"

_SPACERS = re.compile(r"[\s().-]")
_MOBILE = re.compile(r"1[3-9]\d{9}")
_LANDLINE = re.compile(r"0[1-9]\d{1,2}\d{7,8}")
_E164 = re.compile(r"\+[1-9]\d{6,14}")
_DIGITS = re.compile(r"\+?\d(?:[\s().-]?\d){6,}", re.ASCII)
_FIRST_HAN, _LAST_HAN = "\u3400", "\u9fff"


class _Silent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Says nothing of its content in a log line or a traceback."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"


class Contact(_Silent, frozen=True, kw_only=True, omit_defaults=True):
    """Whom to ask for; `phone` is E.164, or empty."""

    name: str = ""
    phone: str = ""


class StopPersonal(_Silent, frozen=True, kw_only=True, omit_defaults=True):
    """Of one stop: the address as it was written, and whom to ask for there."""

    text: str = ""
    contact: Contact | None = None


class OrderPersonal(_Silent, frozen=True, kw_only=True, omit_defaults=True):
    """Of one order: its stops, in the order's order, and the note to the rider."""

    stops: tuple[StopPersonal, ...] = ()
    note: str = ""

    def stop(self, order: Order, index: int) -> StopPersonal:
        """Of the order's stop. Goods that go back go to a stop of before, at the same point."""
        if index >= len(self.stops):
            place = order.stops[index].place
            points = ((s.place.lat, s.place.lon) for s in order.stops[: len(self.stops)])
            index = next((i for i, at in enumerate(points) if at == (place.lat, place.lon)), -1)
            if index < 0:
                return StopPersonal()
        return self.stops[index]


class RiderPersonal(_Silent, frozen=True, kw_only=True, omit_defaults=True):
    """Of one rider; `phone` is E.164, or empty."""

    name: str = ""
    phone: str = ""


class Sealed(NamedTuple):
    """Personal data as they are stored. `owner` is whom they are about: `customer/anna`."""

    subject: str
    tenant: str
    city: str
    owner: str
    key_id: str
    nonce: bytes
    ciphertext: bytes
    created_at_ms: int


NOTHING = OrderPersonal()


def order_subject(order_id: str) -> str:
    """Under which an order's personal data are stored."""
    return f"order/{order_id}"


def rider_subject(rider_id: str) -> str:
    """Under which a rider's are."""
    return f"rider/{rider_id}"


def has_texts(order: Order) -> bool:
    """Whether it is an order of before, which holds personal data itself."""
    return bool(order.note) or any(stop.place.text for stop in order.stops)


def in_the_clear(order: Order) -> OrderPersonal:
    """What an order of before holds itself; NOTHING for any other."""
    if not has_texts(order):
        return NOTHING
    texts = tuple(StopPersonal(text=stop.place.text) for stop in order.stops)
    return OrderPersonal(stops=texts, note=order.note)


def without_texts(order: Order) -> Order:
    """The order as the engine has it: points only."""
    stops = tuple(replace(s, place=replace(s.place, text="")) for s in order.stops)
    return replace(order, stops=stops, note="")


def read_phone(given: str) -> str:
    """The number in E.164; a mainland number may come as it is dialled at home.

    Raises:
        ValueError: it is no phone number; says what would be one, not what was given.
    """
    text = _SPACERS.sub("", given)
    if text.startswith("00"):
        text = "+" + text[2:]
    if text.startswith("+86"):
        text = text[3:] if text[3:4] in ("0", "1") else "0" + text[3:]
    if not text.isascii():
        raise ValueError(PHONE)
    if _MOBILE.fullmatch(text):
        return "+86" + text
    if _LANDLINE.fullmatch(text):
        return "+86" + text[1:]
    if _E164.fullmatch(text):
        return text
    raise ValueError(PHONE)


def masked_name(name: str) -> str:
    """What the other party sees: the surname's sign, or the first letter."""
    first = name.strip()[:1]
    if not first:
        return ""
    return f"{first}**" if _FIRST_HAN <= first <= _LAST_HAN else f"{first.upper()}."


def masked_phone(phone: str) -> str:
    """The last four digits, by which people recognise each other at the counter."""
    return f"****{phone[-4:]}" if phone else ""


def masked(contact: Contact | None) -> Contact | None:
    """Name and phone as another party may see them."""
    if contact is None:
        return None
    return Contact(name=masked_name(contact.name), phone=masked_phone(contact.phone))


def without_numbers(text: str) -> str:
    """A free text that everybody sees, with what looks like a phone number struck out."""
    return _DIGITS.sub("***", text)
