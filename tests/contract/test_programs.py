"""A missing program skips a contract test with a reason, and fails it where CI=true."""

from __future__ import annotations

import os
from pathlib import Path

import programs
import pytest


@pytest.fixture(autouse=True)
def all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the gate's first Python runs them."""
    monkeypatch.delenv("NOTNOW_TEST_CLIENTS", raising=False)


def test_all_programs_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where CI=true, and those that are installed."""
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("NOTNOW_TEST_CLIENTS", "python")
    with pytest.raises(pytest.skip.Exception, match="only Python's own clients run"):
        programs.need("sh", "dash")


def test_a_missing_program_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-mta is not installed: apt-get install mta-package"):
        programs.need("no-such-mta", "mta-package")


def test_a_missing_program_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-mta is not installed"):
        programs.need("no-such-mta", "mta-package")


def test_a_missing_module_of_nodes_skips(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(programs, "NODE_PATH", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="no-such-module is not installed: npm install"):
        programs.need_module("no-such-module")
    (tmp_path / "no-such-module").mkdir()
    programs.need_module("no-such-module")


def test_whoever_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="for root only: run it as root"):
        programs.need_root("for root only")
