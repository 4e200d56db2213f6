"""How merchants of a scenario prepare what is ordered; imports the checks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from sim.scenario.checks import (
    FORBID,
    need,
    need_day,
    need_over_zero,
    need_share,
    need_shares,
    need_zero_or_more,
)

Law = Literal["normal", "lognormal", "gamma"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantKind:
    """`share` of the merchants prepare otherwise than the rest, and have `popularity` times as many
    orders as they would have."""

    __pydantic_config__ = FORBID

    name: str
    share: float
    prep_s: float = 480.0
    prep_spread: float = 0.4
    prep_law: Law = "normal"
    late_share: float = 0.2
    late_s: float = 180.0
    popularity: float = 1.0

    def __post_init__(self) -> None:
        path = "merchants.kinds"
        need(bool(self.name), f"{path}.name", self.name, "a name")
        need_zero_or_more(self, path, "prep_s", "prep_spread", "late_s")
        need_over_zero(self, path, "popularity")
        need_share(f"{path}.late_share", self.late_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class CongestionKnobs:
    """A kitchen slows down: each order beyond `free` that a merchant still prepares makes the
    preparation of the next one longer by `share_per_order`, up to `factor_max` times as long.

    The merchant tells `told_share` of what that adds; the rest is a delay.
    """

    __pydantic_config__ = FORBID

    share_per_order: float = 0.0
    free: int = 0
    factor_max: float = 4.0
    told_share: float = 1.0

    def __post_init__(self) -> None:
        path = "merchants.congestion"
        need_zero_or_more(self, path, "share_per_order", "free")
        need(1 <= self.factor_max < 100, f"{path}.factor_max", self.factor_max, "1 to 100")
        need_share(f"{path}.told_share", self.told_share)


@dataclass(frozen=True, slots=True, kw_only=True)
class MerchantKnobs:
    """`count` merchants, of whom `demand.merchants` may tell instead.

    `prep_s` is the mean preparation time, spread by the share `prep_spread` in `prep_law`, times
    the factor of the local hour of the order.

    A share `late_share` of orders is ready later than told, by `late_s` on average. Merchants of
    one of the `kinds` have that kind's own numbers.
    """

    __pydantic_config__ = FORBID

    count: int = 0
    prep_s: float = 480.0
    prep_spread: float = 0.4
    prep_law: Law = "normal"
    prep_by_hour: tuple[float, ...] = ()
    late_share: float = 0.2
    late_s: float = 180.0
    kinds: tuple[MerchantKind, ...] = ()
    congestion: CongestionKnobs = field(default_factory=CongestionKnobs)

    def __post_init__(self) -> None:
        need(0 <= self.count <= 1_000_000, "merchants.count", self.count, "1 to 1000000")
        need_zero_or_more(self, "merchants", "prep_s", "prep_spread", "late_s")
        need_share("merchants.late_share", self.late_share)
        need_day("merchants.prep_by_hour", self.prep_by_hour)
        need_shares("merchants.kinds", [kind.share for kind in self.kinds])
        names = [kind.name for kind in self.kinds]
        need(len(names) == len(set(names)), "merchants.kinds", names, "names that stand once")
