"""A missing program skips a contract test with a reason, and fails it where CI=true."""

from __future__ import annotations

import os

import programs
import pytest


def test_a_missing_program_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-mta is not installed: apt-get install mta-package"):
        programs.need("no-such-mta", "mta-package")


def test_a_missing_program_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-mta is not installed"):
        programs.need("no-such-mta", "mta-package")


def test_whoever_is_not_root_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(pytest.skip.Exception, match="for root only: run it as root"):
        programs.need_root("for root only")
