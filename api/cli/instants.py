"""Instants as people type them: a time of day where the city is, or an ISO date and time."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from geo.errors import InvalidValue

ZONE = "Asia/Shanghai"
EXPECTED = "a time like 12:05 or 12:05:30, or a date and time like 2026-06-01T12:05"


def zone_of(name: str) -> ZoneInfo:
    """The zone of that IANA name. Raises InvalidValue when there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise InvalidValue("zone", name, "an IANA name like Asia/Shanghai") from None


def instant(field: str, text: str, zone: ZoneInfo, since_ms: int) -> int:
    """`text` as ms UTC: a time of day is the first such one in the zone from `since_ms` on.

    Raises InvalidValue, naming the field, for anything else than a time, or a date and a time.
    """
    try:
        moment = datetime.fromisoformat(text) if "-" in text else _first(text, zone, since_ms)
    except ValueError:
        raise InvalidValue(field, text, EXPECTED) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=zone)
    return round(moment.timestamp() * 1000)


def shown(at_ms: int, zone: ZoneInfo) -> str:
    """The instant as the zone's clocks show it: 2026-06-01 12:05:00."""
    return datetime.fromtimestamp(at_ms / 1000, zone).strftime("%Y-%m-%d %H:%M:%S")


def _first(text: str, zone: ZoneInfo, since_ms: int) -> datetime:
    of_day = time.fromisoformat(text)
    day: date = datetime.fromtimestamp(since_ms / 1000, zone).date()
    found = datetime.combine(day, of_day, zone)
    if found.timestamp() * 1000 < since_ms // 1000 * 1000:
        found = datetime.combine(day + timedelta(days=1), of_day, zone)
    return found
