"""A job type whose orders wait for a rider for seconds only; the system finds it as a plug-in.

The one module of the run that is part of the product while it runs: it may import job types.
"""

from __future__ import annotations

import os
from pathlib import Path

from dispatch.jobs.delivery import Delivery

NAME = "hurried"
JOB = Delivery(name=NAME, patience_ms=6_000)
ROOT = Path(__file__).resolve().parents[2]


def install(folder: Path) -> dict[str, str]:
    """Puts it into the folder as an installed package has it; the environment that finds it."""
    info = folder / "plugins" / "hexrun_chaos-0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hexrun-chaos\nVersion: 0\n")
    (info / "entry_points.txt").write_text(f"[hexrun.jobs]\n{NAME} = {__name__}:JOB\n")
    paths = [str(info.parent), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
