"""What the contract tests share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import clients
import coverage_table
import pairing
import postfix
import programs
import pytest

from notnow import FakeSMTP

HERE, LOOP = Path(__file__).parent, "each_loop"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what `pairing` says. With one loop (`NOTNOW_TEST_LOOPS=uvloop`) all cases run on it."""
    tests: dict[str, dict[pairing.Run, pytest.Item]] = defaultdict(dict)
    for item in items:
        if item.path.is_relative_to(HERE) and isinstance(item, pytest.Function) and LOOP in item.callspec.params:
            given = {name: str(value) for name, value in item.callspec.params.items()}
            loop = given.pop(LOOP)
            tests[item.nodeid.partition("[")[0]][pairing.Run(loop, tuple(given.items()))] = item
    spare = {test[run] for test in tests.values() for run in pairing.spare(list(test))}
    config.hook.pytest_deselected(items=[item for item in items if item in spare])
    items[:] = [item for item in items if item not in spare]


@pytest.fixture(autouse=True)
def installed(request: pytest.FixtureRequest) -> None:
    """A test with a `client` among its parameters needs that client's program."""
    callspec = getattr(request.node, "callspec", None)
    client = callspec.params.get("client") if callspec else None
    if client is not None:
        clients.need(client)


@pytest.fixture(autouse=True)
def loop(each_loop: str) -> str:
    """Every contract test runs on both loops: users get either. `pairing` deals out its cases."""
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
