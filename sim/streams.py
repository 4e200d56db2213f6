"""One named stream of randomness an actor, so that no actor's draws move another's; uses numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import numpy as np

Streams = Callable[..., np.random.Generator]
"""An actor's own streams, each by its names."""

_WORD = 4
_SHORT_BYTES = 4
_DIGEST_BYTES = 16


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of the actor called `names` under `seed`.

    The names are hashed (BLAKE2b) into the seed sequence, so a stream depends on nothing but the
    seed and its own names: a new actor, or one that draws more, leaves all others as they were.
    `("a", "b")` and `("a/b",)` are two streams. Raises ValueError for a negative seed.
    """
    digest = _hashed(names, _DIGEST_BYTES)
    words = [int.from_bytes(digest[i : i + _WORD], "big") for i in range(0, _DIGEST_BYTES, _WORD)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))


def short_name(*names: str | int) -> str:
    """Eight hexadecimal digits for one who has no name, by what is said of him."""
    return _hashed(names, _SHORT_BYTES).hex()


def _hashed(names: Iterable[str | int], size: int) -> bytes:
    parts = [f"{len(text)}:{text}" for text in map(str, names)]
    return hashlib.blake2b("".join(parts).encode(), digest_size=size).digest()
