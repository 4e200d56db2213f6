"""A small generated day for every machine, the checker, and real days where there are some."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

HERE = Path(__file__).parent
REAL_DAY = "0o50t100s1p100"


@pytest.fixture(scope="session")
def checker() -> ModuleType:
    """The independent checker beside this file."""
    spec = importlib.util.spec_from_file_location("mdrp_checker", HERE / "checker.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_day() -> Callable[..., Path]:
    return _write_day


@pytest.fixture(scope="session")
def small_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _write_day(tmp_path_factory.mktemp("mdrp") / "small", seed=1)


@pytest.fixture(scope="session")
def real_day() -> Path:
    """A day of the benchmark's files; skips where they are not."""
    folder = Path(os.environ.get("HEXRUN_MDRP", "")) / REAL_DAY
    if not folder.is_dir():
        pytest.skip("the benchmark's files are not here: set HEXRUN_MDRP to their folder")
    return folder


@pytest.fixture(scope="session", params=["small_day", "real_day"])
def day(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def _write_day(
    folder: Path,
    seed: int,
    orders: int = 120,
    couriers: int = 14,
    minutes: int = 240,
    services: tuple[int, int] = (4, 4),
) -> Path:
    """A day in the benchmark's format with a few busy restaurants and too few couriers at its
    peak, so that orders wait and bundles form; some become ready after the last shift."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    shops = rng.integers(1_000, 5_000, (6, 2))
    _table(
        folder / "restaurants.txt", "restaurant x y", [(f"r{n}", *p) for n, p in enumerate(shops)]
    )
    rows = []
    for n in range(orders):
        placed = int(rng.triangular(0, minutes / 2, minutes))
        x, y = rng.integers(0, 6_000, 2)
        ready = placed + int(rng.integers(0, 30))
        rows.append((f"o{n}", x, y, placed, f"r{rng.integers(6)}", ready))
    _table(folder / "orders.txt", "order x y placement_time restaurant ready_time", rows)
    rows = []
    for n in range(couriers):
        on = int(rng.integers(0, minutes - 60))
        x, y = rng.integers(0, 6_000, 2)
        rows.append((f"c{n}", x, y, on, min(on + 60 * int(rng.integers(1, 4)), minutes + 10)))
    _table(folder / "couriers.txt", "courier x y on_time off_time", rows)
    names = (
        "meters_per_minute",
        "pickup service minutes",
        "dropoff service minutes",
        "target click-to-door",
        "maximum click-to-door",
        "pay per order",
        "guaranteed pay per hour",
    )
    text = "\t".join(names) + "\n" + "\t".join(map(str, (320, *services, 40, 90, 10, 15))) + "\n"
    (folder / "instance_parameters.txt").write_text(text)
    return folder


def _table(path: Path, columns: str, rows: list[tuple[object, ...]]) -> None:
    lines = [columns.split(" "), *rows]
    path.write_text("".join("\t".join(map(str, line)) + "\n" for line in lines))
