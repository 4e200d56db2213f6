"""A fit and its goodness as figures by name, for people and programs; does no I/O."""

from __future__ import annotations

from typing import Any

from sim.fit.goodness import QUANTILES, Goodness
from sim.fit.scenario import Fitted


def fit_figures(fitted: Fitted) -> dict[str, Any]:
    """What the scenario was fitted from, and how."""
    scenario = fitted.scenario
    out: dict[str, Any] = {
        "name": scenario.name,
        "orders": fitted.orders,
        "days": fitted.days,
        "orders_per_day": round(fitted.orders / fitted.days, 1),
        "cells": len({rate.cell for rate in scenario.demand.rates}),
        "merchants": len(scenario.demand.merchants),
        "door_pairs": len(scenario.demand.doors),
        "riders": scenario.riders.count,
    }
    for job, fit in fitted.rates.items():
        mark = f"_{job}" if len(fitted.rates) > 1 else ""
        out |= {
            f"kernel_quarters{mark}": fit.kernel_quarters,
            f"weekday_shape{mark}": round(fit.weekday_shape, 3),
            f"cell_hour_shape{mark}": round(fit.cell_hour_shape, 3),
            f"cell_quarter_shape{mark}": round(fit.cell_quarter_shape, 3),
            f"cell_weekday_shape{mark}": round(fit.cell_weekday_shape, 3),
        }
    out |= {
        "prep_told": fitted.prep.orders,
        "prep_mean_s": fitted.prep.mean_s,
        "prep_spread": fitted.prep.spread,
        "prep_law": fitted.prep.law,
        "door_median_m": fitted.doors.median_m,
        "door_spread": fitted.doors.spread,
        "door_discount": fitted.doors.discount,
        "doors_too_far": fitted.doors.too_far,
    }
    return out


def goodness_figures(goodness: Goodness, held_out: bool) -> dict[str, Any]:
    """The measures by name; `held_out` says whether the fit has not seen the day."""
    return {
        "held_out": held_out,
        "day": goodness.day,
        "orders": goodness.orders,
        "orders_expected": goodness.expected,
        "volume_ratio": round(goodness.orders / goodness.expected, 4)
        if goodness.expected
        else None,
        "measures": {
            m.name: {
                "fitted": _digits(m.fitted),
                "rival": _digits(m.rival),
                "perfect": _digits(m.perfect),
                "p": None if m.p is None else _digits(m.p),
                "df": m.df,
            }
            for m in goodness.measures
        },
        "quantiles": {
            q.name: {
                "at": list(QUANTILES),
                "held_out": list(q.held_out),
                "fitted": list(q.fitted),
            }
            for q in goodness.quantiles
        },
    }


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
