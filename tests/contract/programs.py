"""Programs that a test needs: the one place where a contract test is skipped.

Where CI=true nothing may be skipped: there a missing program is a failure.
"""

from __future__ import annotations

import os
import shutil

import pytest

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"  # where Debian has its mail programs


def need(program: str, package: str) -> None:
    """Skip the test if `program` is not installed, and say which Debian `package` has it."""
    if shutil.which(program, path=PATH) is None:
        _lacking(f"{program} is not installed: apt-get install {package}")


def need_root(why: str) -> None:
    """Skip the test if it is not run by root."""
    if os.geteuid() != 0:
        _lacking(f"{why}: run it as root")


def _lacking(what: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} (CI=true: nothing is skipped)", pytrace=False)
    pytest.skip(what)
