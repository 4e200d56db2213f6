"""One named stream of randomness an actor, so that no actor's draws move another's; uses numpy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

Streams = Callable[..., np.random.Generator]
"""An actor's own streams, each by its names."""

_WORD = 4
_DIGEST_BYTES = 16


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of the actor called `names` under `seed`.

    The names are hashed (BLAKE2b) into the seed sequence, so a stream depends on nothing but the
    seed and its own names: a new actor, or one that draws more, leaves all others as they were.
    `("a", "b")` and `("a/b",)` are two streams. Raises ValueError for a negative seed.
    """
    parts = [f"{len(text)}:{text}" for text in map(str, names)]
    digest = hashlib.blake2b("".join(parts).encode(), digest_size=_DIGEST_BYTES).digest()
    words = [int.from_bytes(digest[i : i + _WORD], "big") for i in range(0, _DIGEST_BYTES, _WORD)]
    return np.random.default_rng(np.random.SeedSequence([seed, *words]))
