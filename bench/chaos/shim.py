"""Compiles the shim of slow fsync and stepped clocks, and says how a process gets it."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bench.chaos.levers import Levers

SOURCE = Path(__file__).with_name("shim.c")
VARIABLE = "HEXRUN_CHAOS_SHIM"


def compile_shim(folder: Path) -> Path:
    """The shared object in `folder`. Raises CalledProcessError with the compiler's words."""
    target = folder / "shim.so"
    line = ["gcc", "-O2", "-shared", "-fPIC", "-Wall", "-o", str(target), str(SOURCE), "-ldl"]
    subprocess.run(line, check=True)
    target.chmod(0o755)
    return target


def shim_environment(shim: Path, levers: Levers, service: str) -> dict[str, str]:
    """What the service's environment must hold besides its own."""
    return {"LD_PRELOAD": str(shim), VARIABLE: str(levers.shim(service))}
