"""Which process is to have which city, computed alike by all of them; imports hashlib only.

Rendezvous hashing: each city goes to the member with the highest hash of the pair. Who joins takes
cities to himself only, and who leaves gives up his own only.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b


def share(member: str, members: Iterable[str], cities: Iterable[str]) -> frozenset[str]:
    """The cities that are `member`'s while exactly `members` are alive."""
    known = sorted(members)
    return frozenset(c for c in cities if max(known, key=lambda m: _weight(c, m)) == member)


def _weight(city: str, member: str) -> bytes:
    return blake2b(f"{city}\n{member}".encode(), digest_size=8).digest()
