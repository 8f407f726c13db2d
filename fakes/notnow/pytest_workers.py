"""pytest-xdist: the seed that its controller gives to the workers, and the problems with markers that they tell it.

The plugin registers this where workers run the tests.
"""

from __future__ import annotations

from typing import Any

import pytest

from notnow import pytest_run


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["notnow_seed"] = node.config.stash[pytest_run.SEED]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    if problems := getattr(node, "workeroutput", {}).get(pytest_run.PROBLEMS):
        raise pytest.UsageError("\n".join(problems))
