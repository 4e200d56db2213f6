"""How long merchants prepare what is ordered, and how much later than told it is; uses scipy.

A preparation is a function of what was ordered before, never of who carries it: two policies meet
the same kitchens.
"""

from __future__ import annotations

import heapq

import numpy as np
from scipy.special import gammaincinv, ndtr

from sim.city import F8, I8, City
from sim.scenario import CongestionKnobs, MerchantKind, MerchantKnobs, Scenario

# A normal law is cut where preparations would be negative or absurd.
_LEAST, _MOST = 0.2, 3.0


def prep_ms(scenario: Scenario, city: City, merchant: I8, hour: I8, z: F8) -> F8:
    """The preparation that each order would take alone in the kitchen, by its standard normal z.

    A lognormal or gamma law has the mean and the relative spread of the knobs, and the quantile
    of z; so that another law, or another merchant's, moves nobody else's time.
    """
    kinds, kind = _kinds(scenario), city.kind[merchant]
    own_s, own_spread = city.prep_s[merchant], city.prep_spread[merchant]
    mean_s = np.where(own_s > 0, own_s, np.array([k.prep_s for k in kinds])[kind])
    spread = np.where(own_spread > 0, own_spread, np.array([k.prep_spread for k in kinds])[kind])
    laws = np.array([k.prep_law for k in kinds], dtype=object)[kind]
    out = mean_s * np.clip(1.0 + spread * z, _LEAST, _MOST)
    for law, factor in (("lognormal", _lognormal), ("gamma", _gamma)):
        rows = (laws == law) & (spread > 0)
        out[rows] = mean_s[rows] * factor(spread[rows], z[rows])
    by_hour = scenario.merchants.prep_by_hour
    if by_hour:
        out *= np.array(by_hour)[hour]
    return out * 1000


def _lognormal(spread: F8, z: F8) -> F8:
    """Mean 1, standard deviation `spread`."""
    variance = np.log1p(spread * spread)
    return np.asarray(np.exp(np.sqrt(variance) * z - variance / 2.0))


def _gamma(spread: F8, z: F8) -> F8:
    """Mean 1, standard deviation `spread`."""
    shape = 1.0 / (spread * spread)
    return np.asarray(gammaincinv(shape, ndtr(z)) / shape)


def late_ms(scenario: Scenario, city: City, merchant: I8, chance: F8, wait: F8) -> F8:
    """How much later than told each order is ready, by a uniform and a standard exponential."""
    kinds, kind = _kinds(scenario), city.kind[merchant]
    late = chance < np.array([k.late_share for k in kinds])[kind]
    return np.where(late, wait * np.array([k.late_s for k in kinds])[kind], 0.0) * 1000


def _kinds(scenario: Scenario) -> tuple[MerchantKnobs | MerchantKind, ...]:
    return (scenario.merchants, *scenario.merchants.kinds)


def congested(knobs: CongestionKnobs, at_ms: I8, merchant: I8, prep: I8, late: I8) -> None:
    """Lengthens `prep` and `late` (ms, changed in place) of orders, by time, that find a kitchen
    busy: with orders placed before that are not ready yet, cancelled ones among them."""
    kitchens: dict[int, list[int]] = {}
    rows = zip(at_ms.tolist(), merchant.tolist(), prep.tolist(), strict=True)
    for row, (at, who, alone) in enumerate(rows):
        ready = kitchens.setdefault(who, [])
        while ready and ready[0] <= at:
            heapq.heappop(ready)
        busy = max(0, len(ready) - knobs.free)
        more = min(knobs.share_per_order * busy, knobs.factor_max - 1.0) * alone
        told = round(more * knobs.told_share)
        prep[row] += told
        late[row] += round(more) - told
        heapq.heappush(ready, at + int(prep[row]) + int(late[row]))
