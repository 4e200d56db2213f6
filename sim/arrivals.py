"""Which orders come when, and from which merchants, as batches with streams of their own.

Uses numpy and scipy. The scenario's own orders come from bells and popularity, or by a table of
rates, one batch a cell. What special days and rain take away is left out of a batch, what they add
comes as further batches; so that neither moves the other orders. Bursts are batches too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from geo.cells import of_text
from sim.city import F8, I8, City
from sim.hours import QUARTER_MS, LocalTime, local_time
from sim.scenario import ANY, HOUR_MS, QUARTERS, WEEKDAYS, Burst, OrderKnobs, Scenario
from sim.streams import Streams, short_name, stream
from sim.weather import Causes

_DAYS = len(WEEKDAYS)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """n orders by time: from which merchant (a row of the city), of which job type (an index into
    the scenario's). They are called `prefix` and their row; all else about them comes from
    `streams`, and then those that are not to `keep` are left out."""

    prefix: str
    streams: Streams
    at_ms: I8
    merchant: I8
    job: I8
    keep: NDArray[np.bool_] | None = None


NOTHING = Batch("", partial(stream, 0, "nothing"), *np.zeros((3, 0), np.int64))


def draw_batches(
    scenario: Scenario, city: City, seed: int, causes: Causes, local: LocalTime
) -> Iterator[Batch]:
    """All orders of a scenario, batch by batch."""
    if scenario.demand:
        yield from _by_table(scenario, city, seed, causes, local)
    else:
        yield from _by_bells(scenario, city, seed, causes, local)
    again: Counter[str] = Counter()
    for burst in scenario.bursts:
        name = short_name(*(str(getattr(burst, key)) for key in _WHICH_BURST))
        again[name] += 1
        name += f"-{again[name]}" if again[name] > 1 else ""
        yield _burst(scenario, city, partial(stream, seed, "demand", "burst", name), burst, name)


# --- bells ---


def _by_bells(
    scenario: Scenario, city: City, seed: int, causes: Causes, local: LocalTime
) -> Iterator[Batch]:
    streams, count = partial(stream, seed, "demand"), scenario.orders.count
    jobs, shares = _jobs(scenario)
    at_ms = scenario.start_ms + _times(scenario.orders, scenario.duration_s, streams("times"))
    merchant = streams("merchants").choice(len(city.x), count, p=city.popular)
    job = streams("jobs").choice(len(jobs), count, p=shares)
    base = Batch("o", streams, at_ms, merchant, job)
    yield _kept(base, jobs, causes)
    if not causes:
        return
    curve = _curve(scenario.orders, scenario.start_ms, scenario.duration_s, local)
    for i, name in enumerate(jobs):
        more = partial(stream, seed, "demand", "more", name)
        for mark, own, added, keep in _added(
            scenario, curve * shares[i], more, causes, name, local
        ):
            merchant = own("merchants").choice(len(city.x), len(added), p=city.popular)
            yield Batch(f"x{i}-{mark}-", own, added, merchant, np.full(len(added), i), keep)


def _jobs(scenario: Scenario) -> tuple[tuple[str, ...], F8]:
    names = tuple(scenario.jobs)
    shares = np.array([scenario.jobs[name] for name in names], np.float64)
    return names, shares / shares.sum()


def _times(knobs: OrderKnobs, duration_s: int, rng: np.random.Generator) -> I8:
    """Sorted ms after the start. What a bell throws out of the window falls evenly into it."""
    count, end_ms = knobs.count, duration_s * 1000
    shares = [peak.share for peak in knobs.peaks]
    source = rng.choice(len(shares) + 1, count, p=[*shares, max(0.0, 1.0 - sum(shares))])
    at_ms = rng.uniform(0.0, end_ms, count)
    bell = rng.standard_normal(count)
    for i, peak in enumerate(knobs.peaks):
        drawn = (peak.at_h + peak.width_h * bell) * HOUR_MS
        at_ms = np.where((source == i) & (drawn >= 0.0) & (drawn < end_ms), drawn, at_ms)
    return np.sort(at_ms.astype(np.int64))


def _curve(knobs: OrderKnobs, start_ms: int, duration_s: int, local: LocalTime) -> F8:
    """How many orders the bells and the even rest are expected to bring in each quarter hour."""
    end_h = duration_s / 3600
    edges_h = np.clip((local.edges_ms - start_ms) / HOUR_MS, 0.0, end_h)
    within = np.diff(edges_h) / end_h
    out = within * (1.0 - sum(peak.share for peak in knobs.peaks))
    for peak in knobs.peaks:
        inside = np.diff(ndtr((edges_h - peak.at_h) / peak.width_h))
        out += peak.share * (inside + (1.0 - inside.sum()) * within)
    return np.asarray(out * knobs.count)


# --- tables ---


def _by_table(
    scenario: Scenario, city: City, seed: int, causes: Causes, local: LocalTime
) -> Iterator[Batch]:
    jobs, _ = _jobs(scenario)
    members = _members(city)
    for name, cell, expected in expected_orders(scenario, local):
        streams = partial(stream, seed, "demand", "cell", name, cell)
        job = jobs.index(name)
        who = members[of_text(cell)]
        chance = city.popular[who] / city.popular[who].sum()
        base = _poisson(scenario, expected, streams("times"), local)
        if len(base):
            merchant = who[streams("merchants").choice(len(who), len(base), p=chance)]
            batch = Batch(f"o{job}-{cell}-", streams, base, merchant, np.full(len(base), job))
            yield _kept(batch, jobs, causes)
        more = partial(streams, "more")
        for mark, own, added, keep in _added(scenario, expected, more, causes, name, local):
            merchant = who[own("merchants").choice(len(who), len(added), p=chance)]
            prefix, kind = f"o{job}-{cell}-x-{mark}-", np.full(len(added), job)
            yield Batch(prefix, own, added, merchant, kind, keep)


def _members(city: City) -> dict[int, I8]:
    """The merchants of each cell."""
    order = np.argsort(city.cell, kind="stable")
    cells, first = np.unique(city.cell[order], return_index=True)
    parts = np.split(order, first[1:])
    return dict(zip(cells.tolist(), parts, strict=True))


def expected_orders(scenario: Scenario, local: LocalTime) -> Iterator[tuple[str, str, F8]]:
    """(job type, cell, orders expected in each quarter hour of the run), of what has rates; special
    days, rain and bursts left out."""
    table: dict[tuple[str, str], dict[str, F8]] = {}
    days: dict[str, set[str]] = {}
    jobs, shares = _jobs(scenario)
    for rate in scenario.demand.rates:
        day = np.repeat(np.array(rate.per_h), QUARTERS // len(rate.per_h)) * scenario.demand.factor
        for name, share in zip(jobs, shares.tolist(), strict=True):
            if rate.job_type in ("", name):
                part = day if rate.job_type else day * share
                own = table.setdefault((name, rate.cell), {})
                own[rate.weekday] = own.get(rate.weekday, 0.0) + part
                days.setdefault(name, set()).add(rate.weekday)
    edges = local.edges_ms
    end_ms = scenario.start_ms + scenario.duration_s * 1000
    hours = np.diff(np.clip(edges, scenario.start_ms, end_ms).astype(np.float64)) / HOUR_MS
    for (name, cell), own in sorted(table.items()):
        week = np.zeros((_DAYS, QUARTERS))
        for i, weekday in enumerate(WEEKDAYS):
            week[i] = own.get(weekday if weekday in days[name] else ANY, 0.0)
        yield name, cell, week[local.weekday, local.quarter] * hours


def orders_expected(scenario: Scenario) -> int:
    """About how many orders will come, bursts included; special days and rain left out."""
    end_ms = scenario.start_ms + scenario.duration_s * 1000
    local = local_time(scenario.start_ms, end_ms, scenario.city.zone)
    by_table = sum(float(part.sum()) for _, _, part in expected_orders(scenario, local))
    return scenario.orders.count + round(by_table) + sum(b.orders for b in scenario.bursts)


def _poisson(scenario: Scenario, expected: F8, rng: np.random.Generator, local: LocalTime) -> I8:
    """Sorted instants, Poisson with so many expected in each quarter hour."""
    counts = rng.poisson(expected)
    edges = local.edges_ms
    bins = np.repeat(np.arange(len(counts)), counts)
    from_ms = np.maximum(edges[bins], scenario.start_ms)
    to_ms = np.minimum(edges[bins] + QUARTER_MS, scenario.start_ms + scenario.duration_s * 1000)
    at_ms = from_ms + rng.random(len(bins)) * (to_ms - from_ms)
    return np.sort(at_ms.astype(np.int64))


# --- what days and rain change ---


def _kept(batch: Batch, jobs: Sequence[str], causes: Causes) -> Batch:
    """The batch, which keeps less where causes have factors below 1."""
    if not causes:
        return batch
    chance = batch.streams("kept").random(len(batch.at_ms))
    keep = np.ones(len(chance), np.bool_)
    for i, name in enumerate(jobs):
        rows = batch.job == i
        keep[rows] = chance[rows] < causes.kept(batch.at_ms[rows], name)
    return replace(batch, keep=keep)


def _added(
    scenario: Scenario,
    expected: F8,
    streams: Streams,
    causes: Causes,
    job_type: str,
    local: LocalTime,
) -> Iterator[tuple[str, Streams, I8, NDArray[np.bool_]]]:
    """(a name, streams, instants, which to keep) of the orders that causes add to those expected.

    A cause adds to what is expected, and to what causes before it have added. So that it draws the
    same whoever these are, it draws layer upon layer of what it would add to the expected alone,
    and keeps as many layers as there are times the expected (thinning: Lewis and Shedler 1979).
    """
    for cause, before in causes.adding(job_type):
        touched = cause.touched
        highest = np.ones(len(local))
        for other in before:
            highest[other.touched] *= other.factor
        layers = math.ceil(highest[touched].max(initial=0.0))
        for layer in range(layers):
            mark = f"{cause.name}.{layer}" if layer else cause.name
            own = partial(streams, mark)
            more = expected * touched * (cause.factor - 1.0)
            at_ms = _poisson(scenario, more, own("times"), local)
            at_ms = at_ms[cause.holds(at_ms)]
            if not len(at_ms):
                continue
            height = np.ones(len(at_ms))
            for other in before:
                height[other.holds(at_ms)] *= other.factor
            keep = layer + own("layer").random(len(at_ms)) < height
            keep &= own("kept").random(len(at_ms)) < causes.kept(at_ms, job_type)
            yield mark, own, at_ms, keep


# --- bursts ---


_WHICH_BURST = ("at_h", "lat", "lon", "radius_m", "over_min", "job_type")
"""What tells one burst from another; it may grow."""


def _burst(scenario: Scenario, city: City, streams: Streams, burst: Burst, name: str) -> Batch:
    """From the merchants within the burst's radius, or from the nearest if there is none."""
    x, y = city.plane.xy(burst.lat, burst.lon)
    away = np.hypot(city.x - x, city.y - y)
    near = np.flatnonzero(away <= max(burst.radius_m, float(away.min())))
    chance = city.popular[near] / city.popular[near].sum()
    start_ms, n = scenario.start_ms + int(burst.at_h * HOUR_MS), burst.orders
    at_ms = start_ms + streams("times").random(n) * burst.over_min * 60_000
    merchant = near[streams("merchants").choice(len(near), n, p=chance)]
    jobs, _ = _jobs(scenario)
    job = jobs.index(burst.job_type) if burst.job_type else 0
    times = np.sort(at_ms.astype(np.int64))
    return Batch(f"b{name}-", streams, times, merchant, np.full(n, job))
