"""The checker would share the product's mistakes if it shared its code."""

import ast
from pathlib import Path

CHAOS = Path(__file__).resolve().parents[2] / "bench" / "chaos"
PRODUCT = {"api", "dispatch", "geo", "sim"}
MAY_START_THE_PRODUCT = {"plant.py", "run.py"}
IS_PART_OF_IT = {"hurried.py"}


def imports(path):
    """The top-level names and the modules of the chaos run that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "import_module":
            raise AssertionError(f"{path}: imports by name")


def reached(path, seen):
    """All modules of the chaos run that a file reaches."""
    for name in imports(path):
        if name.startswith("bench."):
            assert name.startswith("bench.chaos"), f"{path} imports {name}"
            found = CHAOS.parents[1].joinpath(*name.split("."))
            found = found / "__init__.py" if found.is_dir() else found.with_suffix(".py")
            if found not in seen:
                seen.add(found)
                reached(found, seen)


def test_the_checker_reaches_nothing_of_the_product():
    seen = set((CHAOS / "checker").glob("*.py"))
    assert len(seen) > 10
    for path in list(seen):
        reached(path, seen)
    for path in seen:
        shared = {name.split(".")[0] for name in imports(path)} & PRODUCT
        assert not shared, f"{path} imports {shared}"


def test_clients_and_faults_know_the_product_from_outside_only():
    for path in CHAOS.glob("*.py"):
        if path.name not in MAY_START_THE_PRODUCT | IS_PART_OF_IT:
            assert not {name.split(".")[0] for name in imports(path)} & PRODUCT, path
