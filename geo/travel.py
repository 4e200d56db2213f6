"""Travel times: the closed-form law that kernels inline, and the models that stand on it.

May import numpy and numba. A law is one line: metres by the metric, times a detour factor, over
the speed, rounded up to a quantum. `geo.arcs` has that line compiled; the models are the same line
over numpy arrays and agree with it to the millisecond. A model with no closed form (a road
network) has `law` None, and its times reach a kernel as a matrix.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geo.errors import InvalidValue, UnknownName

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
Metres: TypeAlias = float | FloatArray
Speed: TypeAlias = float | FloatArray

EUCLID: Final = 0
MANHATTAN: Final = 1

# A time that is a whole number of quanta may come out a few bits too high and must not cost one
# quantum more. The slack is far above the noise (1e-15) and far below the smallest true excess of
# a distance between points on a 1 m grid (5e-11 of a 100 km ride).
EXACT = 1.0 - 1e-12


@dataclass(frozen=True, slots=True)
class TravelLaw:
    """What `arc_ms` needs to know of a model; InvalidValue for what no road can be."""

    metric: int
    detour: float
    quantum_ms: int

    def __post_init__(self) -> None:
        if self.metric not in (EUCLID, MANHATTAN):
            raise InvalidValue("metric", self.metric, f"{EUCLID} (Euclid) or {MANHATTAN} (L1)")
        if not 1.0 <= self.detour < math.inf:
            raise InvalidValue("detour", self.detour, "a finite factor of 1 or more")
        if isinstance(self.quantum_ms, bool) or int(self.quantum_ms) != self.quantum_ms:
            raise InvalidValue("quantum_ms", self.quantum_ms, "a whole number of milliseconds")
        if self.quantum_ms < 1:
            raise InvalidValue("quantum_ms", self.quantum_ms, "1 or more milliseconds")

    def ms_per_m(self, speed_mps: float) -> float:
        """Milliseconds that one metre of the metric costs at `speed_mps`."""
        if not 0.0 < speed_mps < math.inf:
            raise InvalidValue("speed_mps", speed_mps, "a finite speed above 0")
        return 1000.0 * self.detour / speed_mps


class TravelModel(Protocol):
    """How far and how long between points of a city's plane, in metres.

    Coordinates are floats or arrays. A speed is one number, or an array that broadcasts against
    the pairs; in `matrix_ms` it is one number or one for each row. A speed that is not finite and
    above zero raises InvalidValue.
    """

    @property
    def law(self) -> TravelLaw | None:
        """The closed form, if there is one."""

    def metres(self, x1: Metres, y1: Metres, x2: Metres, y2: Metres) -> FloatArray:
        """Ridden metres, element by element."""

    def pair_ms(self, x1: Metres, y1: Metres, x2: Metres, y2: Metres, speed_mps: Speed) -> IntArray:
        """Milliseconds from each first point to its second, int64 in the broadcast shape."""

    def matrix_ms(
        self, x1: FloatArray, y1: FloatArray, x2: FloatArray, y2: FloatArray, speed_mps: Speed
    ) -> IntArray:
        """Milliseconds from each of n1 points to each of n2, int64[n1, n2]."""


class _ClosedForm(ABC):
    """The array side of a model whose law is closed."""

    __slots__ = ()

    @property
    @abstractmethod
    def law(self) -> TravelLaw:
        """The closed form."""

    def metres(self, x1: Metres, y1: Metres, x2: Metres, y2: Metres) -> FloatArray:
        return _metric_m(self.law.metric, x1, y1, x2, y2) * self.law.detour

    def pair_ms(self, x1: Metres, y1: Metres, x2: Metres, y2: Metres, speed_mps: Speed) -> IntArray:
        law = self.law
        speed = np.asarray(speed_mps, np.float64)
        if not np.all((speed > 0.0) & np.isfinite(speed)):
            raise InvalidValue("speed_mps", speed_mps, "finite speeds above 0")
        # The order of the operations is that of `arc_ms`, so that the last bits agree.
        quanta = _metric_m(law.metric, x1, y1, x2, y2) * (1000.0 * law.detour / speed)
        quanta = np.ceil(quanta / law.quantum_ms * EXACT)
        return quanta.astype(np.int64) * np.int64(law.quantum_ms)

    def matrix_ms(
        self, x1: FloatArray, y1: FloatArray, x2: FloatArray, y2: FloatArray, speed_mps: Speed
    ) -> IntArray:
        speed = np.asarray(speed_mps, np.float64)
        rows = speed[:, None] if speed.ndim else speed
        return self.pair_ms(x1[:, None], y1[:, None], x2[None, :], y2[None, :], rows)


@dataclass(frozen=True)
class StraightLine(_ClosedForm):
    """Beeline times a detour factor; 1.3 is a usual value for city streets."""

    detour: float = 1.3
    quantum_ms: int = 1

    def __post_init__(self) -> None:
        _ = self.law

    @property
    def law(self) -> TravelLaw:
        return TravelLaw(EUCLID, self.detour, self.quantum_ms)


@dataclass(frozen=True)
class Manhattan(_ClosedForm):
    """East-west plus north-south: a city on a grid."""

    quantum_ms: int = 1

    def __post_init__(self) -> None:
        _ = self.law

    @property
    def law(self) -> TravelLaw:
        return TravelLaw(MANHATTAN, 1.0, self.quantum_ms)


_MODELS: Mapping[str, Callable[..., TravelModel]] = MappingProxyType(
    {"straight_line": StraightLine, "manhattan": Manhattan}
)


def travel_model(name: str, **knobs: Any) -> TravelModel:
    """The model called `name`; UnknownName lists the models, or the model that lacks a knob."""
    if name not in _MODELS:
        raise UnknownName("travel_model", name, "one of " + ", ".join(_MODELS))
    model = _MODELS[name]
    known = getattr(model, "__dataclass_fields__", {})
    for knob in knobs:
        if knob not in known:
            raise UnknownName(f"travel_model.{name}", knob, "one of " + ", ".join(known))
    return model(**knobs)


def _metric_m(metric: int, x1: Metres, y1: Metres, x2: Metres, y2: Metres) -> FloatArray:
    dx, dy = np.subtract(x2, x1), np.subtract(y2, y1)
    return np.asarray(
        np.abs(dx) + np.abs(dy) if metric == MANHATTAN else np.sqrt(dx * dx + dy * dy)
    )
