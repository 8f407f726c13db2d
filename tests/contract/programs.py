"""Programs that a test needs: the one place where a contract test is skipped.

Where CI=true nothing may be skipped: there a missing program is a failure. NOTNOW_TEST_CLIENTS=python leaves all
programs out, and runs the clients that are written in Python: those differ with the Python that runs them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

NODE_PATH = os.environ.get("NODE_PATH", "")
PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # where Debian has its mail programs

OF_THEIR_OWN = "pip install it in an environment of its own, and a link to its program in the PATH"
ELSEWHERE = {  # not from Debian's packages, or not installed from them
    # A second mail server would take the place of the first.
    "dma": "apt-get download dma && dpkg -x dma_*.deb DIR, and a link to DIR/usr/sbin/dma in the PATH",
    # schemathesis has a plugin that every start of pytest would load; the others pin what they need.
    **dict.fromkeys(
        ("check-jsonschema", "kubernetes-validate", "openapi-python-client", "pre-commit", "schemathesis", "taplo"),
        OF_THEIR_OWN,
    ),
}


def need(program: str, package: str) -> None:
    """Skip the test if `program` is not installed, and say which Debian `package` has it."""
    if os.environ.get("NOTNOW_TEST_CLIENTS") == "python":
        pytest.skip("NOTNOW_TEST_CLIENTS=python: only Python's own clients run")
    if shutil.which(program, path=PATH) is None:
        _lacking(f"{program} is not installed: {ELSEWHERE.get(package, f'apt-get install {package}')}")


def need_place(place: Path, package: str) -> None:
    """Skip the test if this file or folder of a Debian `package` is not there."""
    if not place.exists():
        _lacking(f"{place} is not there: apt-get install {package}")


def need_module(name: str) -> None:
    """Skip the test if a module of Node's is not where NODE_PATH says that such modules are."""
    if not any(Path(place, name).is_dir() for place in NODE_PATH.split(os.pathsep) if place):
        _lacking(f"{name} is not installed: npm install --prefix DIR {name}, and NODE_PATH=DIR/node_modules")


def need_root(why: str) -> None:
    """Skip the test if it is not run by root."""
    if os.geteuid() != 0:
        _lacking(f"{why}: run it as root")


def _lacking(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (CI=true: nothing is skipped)", pytrace=False)
    pytest.skip(what)
