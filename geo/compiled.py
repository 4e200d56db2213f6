"""The ways in which hexrun compiles a function; imports numba only.

Every kernel is compiled for one explicit signature and cached on disk. Neither `fastmath` nor
`parallel` is ever on: both let the order of a sum depend on the machine, and a replay must end in
the same bits.

A signature `T[::1]` takes no read-only array. A kernel that is given a snapshot's columns says
`Array(T, 1, 'A', True)` (dtype, dimensions, layout, read-only), which takes both kinds.

Numba counts the references of arrays: at every call that hands one over and at every slice, each
atomically, which takes longer than a short loop. A kernel whose inner loops call or slice is a
`core`, which counts none and can therefore make no array: its scratch arrays are handed to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compiled(signature: str) -> Callable[[F], F]:
    """Decorate a function to be compiled by numba for `signature`, in numba's own notation."""
    return cast("Callable[[F], F]", numba.njit(signature, cache=True))


def core(signature: str) -> Callable[[F], F]:
    """As `compiled`, for a function that makes no array; it counts no references."""
    uncounted: Any = {"_nrt": False}
    return cast("Callable[[F], F]", numba.njit(signature, cache=True, **uncounted))


def inlined(function: F) -> F:
    """Decorate a part of a core that is copied into it, for arguments of any type."""
    uncounted: Any = {"_nrt": False}
    return cast("F", numba.njit(forceinline=True, **uncounted)(function))


def columns(*dtypes: str) -> str:
    """A piece of a signature: columns of a snapshot, of these types."""
    return ", ".join(f"Array({dtype}, 1, 'A', True)" for dtype in dtypes)
