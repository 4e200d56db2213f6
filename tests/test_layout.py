"""Four short names stand at the top of the import path: they must be ours, and ours alone."""

import sys
from importlib import import_module
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("api", "dispatch", "geo", "sim")

each_package = pytest.mark.parametrize("package", PACKAGES)


@each_package
def test_a_package_comes_from_this_checkout(package):
    assert Path(import_module(package).__file__).resolve() == ROOT / package / "__init__.py"


@each_package
def test_nobody_else_ships_or_shadows_a_package(package):
    assert package not in sys.stdlib_module_names
    owners = set(packages_distributions().get(package, ()))
    assert not owners - {"hexrun"}, f"{package} also belongs to {sorted(owners)}"


def test_no_folder_of_tests_is_a_package():
    """Else a folder like tests/geo would hide the package of that name."""
    assert not sorted(path.parent for path in (ROOT / "tests").rglob("__init__.py"))


def test_every_package_of_the_checkout_is_known_here():
    """One that is added must be added to the distribution and to the contracts too."""
    found = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert found - {"bench"} == set(PACKAGES)
