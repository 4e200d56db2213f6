"""Every metric has our prefix and a unit of the field, and is in the table for who runs it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

import api

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("_seconds", "_total", "_positions", "_events")
# What is counted is the noun itself.
PLAIN = {
    "hexrun_degraded",
    "hexrun_cities_owned",
    "hexrun_http_requests_under_way",
    "hexrun_orders_waiting",
    "hexrun_riders_on_shift",
    "hexrun_riders_stale",
    "hexrun_sequencer_leads",
    "hexrun_stream_connections",
    "hexrun_streams_behind",
    "hexrun_webhook_dead_letters",
    "hexrun_webhook_paused_endpoints",
}


@pytest.fixture(scope="module")
def names() -> set[str]:
    for module in pkgutil.walk_packages(api.__path__, "api."):
        if "__main__" not in module.name and ".migrations" not in module.name:
            importlib.import_module(module.name)
    found = set()
    for family in REGISTRY.collect():
        if not family.name.startswith(("python_", "process_")):
            found.add(family.name + ("_total" if family.type == "counter" else ""))
    return found


def test_each_has_the_prefix_and_a_unit(names: set[str]) -> None:
    assert len(names) > 30
    assert not {name for name in names if not name.startswith("hexrun_")}
    assert {name for name in names if not name.endswith(UNITS)} == PLAIN


def test_the_table_has_them_all_and_no_other(names: set[str]) -> None:
    text = (ROOT / "docs" / "running.md").read_text()
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `hexrun_")]
    assert sorted(re.findall(r"`(hexrun_[a-z_]+)", "".join(rows))) == sorted(names)
