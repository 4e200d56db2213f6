"""How long things are kept, from the environment; may import the error tree.

| variable | meaning | default |
|---|---|---|
| `HEXRUN_KEEP_EVENTS_DAYS` | events of orders and riders | `90` |
| `HEXRUN_KEEP_RECEIPTS_DAYS` | why a rider got an order | `30` |
| `HEXRUN_KEEP_FEED_HOURS` | how far back the feed can be read; 48 or more | `72` |
| `HEXRUN_KEEP_ANSWERS_HOURS` | answers for retries; 24 or more | `48` |
| `HEXRUN_KEEP_AUDIT_DAYS` | the audit log; 90 or more | `400` |
| `HEXRUN_KEEP_DEAD_LETTERS_DAYS` | webhook events that were given up | `30` |
| `HEXRUN_KEEP_FILES_DAYS` | closed segments and journals of the data folder | `7` |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from geo.errors import InvalidValue

DAYS_MAX = 36_500
AUDIT_DAYS_MIN = 90  # the database removes no younger line


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What is older may be dropped. Orders and transfers are kept for good."""

    events_days: int = 90
    receipts_days: int = 30
    feed_hours: int = 72
    answers_hours: int = 48
    audit_days: int = 400
    dead_letters_days: int = 30
    files_days: int = 7

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Keep:
        """Read the variables above. Raises InvalidValue, naming the variable."""
        usual = cls()
        feed_hours = _whole(environ, "HEXRUN_KEEP_FEED_HOURS", usual.feed_hours, 48)
        # The feed points to events: they outlive it.
        days_min = -(-feed_hours // 24) + 1
        return cls(
            events_days=_whole(environ, "HEXRUN_KEEP_EVENTS_DAYS", usual.events_days, days_min),
            receipts_days=_whole(environ, "HEXRUN_KEEP_RECEIPTS_DAYS", usual.receipts_days, 1),
            feed_hours=feed_hours,
            answers_hours=_whole(environ, "HEXRUN_KEEP_ANSWERS_HOURS", usual.answers_hours, 24),
            audit_days=_whole(environ, "HEXRUN_KEEP_AUDIT_DAYS", usual.audit_days, AUDIT_DAYS_MIN),
            dead_letters_days=_whole(
                environ, "HEXRUN_KEEP_DEAD_LETTERS_DAYS", usual.dead_letters_days, 1
            ),
            files_days=_whole(environ, "HEXRUN_KEEP_FILES_DAYS", usual.files_days, 1),
        )


def _whole(environ: Mapping[str, str], name: str, default: int, least: int) -> int:
    given = environ.get(name) or str(default)
    if not (given.isascii() and given.isdigit() and least <= int(given) <= DAYS_MAX):
        raise InvalidValue(name, given, f"a whole number from {least} to {DAYS_MAX}")
    return int(given)
