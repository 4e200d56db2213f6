"""The one way in which hexrun compiles a function; imports numba only.

Every kernel is compiled for one explicit signature and cached on disk. Neither `fastmath` nor
`parallel` is ever on: both let the order of a sum depend on the machine, and a replay must end in
the same bits.

A signature `T[::1]` takes no read-only array. A kernel that is given a snapshot's columns says
`Array(T, 1, 'A', True)` (dtype, dimensions, layout, read-only), which takes both kinds.
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
    return cast("Callable[[F], F]", numba.njit(signature, cache=True, _nrt=False))


def inlined(function: F) -> F:
    """Decorate a small function that compiled ones copy into themselves instead of calling it.

    A call counts the references of each array that it hands over, one by one and atomically, which
    takes longer than such a function itself.
    """
    return cast("F", numba.njit(forceinline=True, _nrt=False)(function))
