"""What the package imports is declared, and what it uses the private parts of has an upper bound."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator, Set
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "fakes" / "notnow"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DECLARED = {canonicalize_name(r.name): r for r in map(Requirement, PROJECT["dependencies"])}
# pytest loads the plugin, so it is there; the others are looked for, and used where the user has them.
OF_THE_USER = {"pytest", "_pytest", "uvloop", "trio", "gevent", "anyio", "hypothesis"}


def imported(node: ast.AST) -> Iterator[str]:
    """The top-level modules that some code imports when it runs; what stands under TYPE_CHECKING does not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (name.name.partition(".")[0] for name in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level and child.module:
            yield child.module.partition(".")[0]
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            yield from (name for other in child.orelse for name in imported(other))
        else:
            yield from imported(child)


def third_party(*files: Path, spared: Set[str] = OF_THE_USER) -> dict[str, Path]:
    """The distributions that files import from, each with a file that does."""
    owners, found = packages_distributions(), dict[str, Path]()
    local = {path.stem for path in TESTS.rglob("*.py")} | {"notnow"}
    for file in files:
        for module in imported(ast.parse(file.read_text(encoding="utf-8"))):
            if module not in sys.stdlib_module_names | local | spared:
                assert module in owners, f"{file} imports {module}, which nothing that is installed has"
                found.update((canonicalize_name(owner), file) for owner in owners[module][:1])
    return found


CONTROL = set(PACKAGE.glob("control/**/*.py"))  # only it may use what the extra `control` brings
EXTRA = {canonicalize_name(r.name) for r in map(Requirement, PROJECT["optional-dependencies"]["control"])}
SHARED = set(PACKAGE.glob("shared/**/*.py"))  # the same of the extra `shared`
SHARED_EXTRA = {canonicalize_name(r.name) for r in map(Requirement, PROJECT["optional-dependencies"]["shared"])}
USED = third_party(*(set(PACKAGE.rglob("*.py")) - CONTROL - SHARED))
USED_FOR_CONTROL = third_party(*CONTROL, spared=OF_THE_USER - {"anyio"})  # Starlette brings it
SEAMS = third_party(*TESTS.glob("test_*_seams.py"))


@pytest.mark.parametrize("name", sorted(USED))
def test_what_is_imported_is_declared(name):
    assert name in DECLARED, f"{USED[name]} imports {name}: declare it in pyproject.toml"


@pytest.mark.parametrize("name", sorted(USED_FOR_CONTROL))
def test_what_the_control_api_imports_is_declared(name):
    assert name in DECLARED or name in EXTRA, (
        f"{USED_FOR_CONTROL[name]} imports {name}: declare it in the extra `control`"
    )


def test_only_what_is_shared_imports_what_the_extra_shared_declares():
    used = third_party(*SHARED)
    assert used.keys() >= SHARED_EXTRA
    assert used.keys() - SHARED_EXTRA <= set(DECLARED)


@pytest.mark.parametrize("name", sorted(EXTRA))
def test_what_the_extra_declares_is_imported(name):
    assert name in USED_FOR_CONTROL, f"nothing in control/ imports {name}: remove it from the extra `control`"


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_what_is_declared_is_imported(name):
    assert name in USED or name in USED_FOR_CONTROL, f"nothing imports {name}: remove it from pyproject.toml"


@pytest.mark.parametrize("name", sorted(SEAMS.keys() & USED.keys()))
def test_what_has_private_parts_in_use_has_an_upper_bound(name):
    """The tests of the seams import it: another version may have other seams."""
    bounds = [spec.operator for spec in DECLARED[name].specifier]
    assert "<" in bounds, f"{SEAMS[name].name} tests its private parts; pyproject.toml declares {DECLARED[name]}"
