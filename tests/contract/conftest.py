"""What the contract tests share."""

from __future__ import annotations

from collections.abc import Iterator

import clients
import coverage_table
import postfix
import programs
import pytest

from notnow import FakeSMTP


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """A test with a `client` among its parameters needs that client's program."""
    callspec = getattr(request.node, "callspec", None)
    client = callspec.params.get("client") if callspec else None
    if client is not None:
        clients.need(client)


@pytest.fixture(autouse=True)
def loop(each_loop: str) -> str:
    """Every contract test runs on both loops: users get either."""
    return each_loop


@pytest.fixture
def proves(request: pytest.FixtureRequest) -> coverage_table.Proves:
    """Put on record which scenario this test proves with which client, if it passes; see coverage_table.py."""
    return coverage_table.recorder(request.node)


@pytest.fixture(scope="session")
def relay() -> Iterator[postfix.Postfix]:
    """A Postfix of our own, for all tests of this run."""
    programs.need("postfix", "postfix")
    programs.need_root("Postfix is started and stopped by root only")
    with postfix.running(FakeSMTP().ca_file) as running:
        yield running
