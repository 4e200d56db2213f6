"""The results of several cities as one; uses the values of a run and its figures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

from sim.report import RunResult, cut_off, fault_figures
from sim.tally import figures as kpis_of
from sim.tally import together

_OF_A_CITY = (
    "orders_created",
    "orders_delivered",
    "on_time_share",
    "click_to_door_mean_min",
    "click_to_door_p95_min",
)


def country_figures(
    name: str,
    seed: int,
    results: Sequence[RunResult],
    *,
    total_s: float,
    peak_rss_mib: float,
) -> dict[str, Any]:
    """The figures of all cities, as `figures` gives those of one, and a few of each in `cities`.

    Orders of all cities count alike: a percentile is that of all orders, not a mean of cities.
    `event_log_sha256` is the digest of the cities' digests in their order. `decide_s`, `referee_s`
    and `other_s` are sums over processes; `total_s` is the real time of all, `peak_rss_mib` the
    sum of the most that each process held. A country that was ended early is marked as such, up
    to the earliest instant that one of its cities came to. Raises ValueError for no results.
    """
    tally = together([one.tally for one in results])
    refused = sum(int(one.kpis["refused_plans"] or 0) for one in results)
    rounds = list(chain.from_iterable(one.round_ms for one in results))
    cut = [one.end_ms for one in results if one.interrupted]
    events = sum(one.events for one in results)
    outside_s = sum(one.other_s + one.referee_s for one in results)
    digests = "\n".join(one.event_log_sha256 for one in results)
    return {
        "scenario": name,
        "seed": seed,
        **kpis_of(tally, rounds, refused),
        "orders_per_s": tally.counts["created"] / total_s if total_s > 0 else 0.0,
        "decide_s": sum(one.decide_s for one in results),
        "referee_s": sum(one.referee_s for one in results),
        "other_s": sum(one.other_s for one in results),
        "other_us_per_event": outside_s / events * 1e6 if events else None,
        "total_s": total_s,
        "rounds": sum(one.rounds for one in results),
        "events": events,
        "event_log_sha256": hashlib.sha256(digests.encode()).hexdigest(),
        "peak_rss_mib": peak_rss_mib,
        "violations": [f"{one.scenario}: {v}" for one in results for v in one.violations],
        **fault_figures(results),
        **(cut_off(min(cut)) if cut else {}),
        "cities": [_row(one) for one in results],
    }


def _row(one: RunResult) -> dict[str, Any]:
    return {
        "city": one.scenario,
        "seed": one.seed,
        **{name: one.kpis[name] for name in _OF_A_CITY},
        "events": one.events,
        "decide_s": one.decide_s,
        "other_s": one.other_s,
        "event_log_sha256": one.event_log_sha256,
        **(cut_off(one.end_ms) if one.interrupted else {}),
    }
