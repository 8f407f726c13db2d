"""Which scenario of the catalogue is proved with which stock client: `python tests/contract/coverage_table.py`.

Runs the contract tests and prints a table of those that passed. Options go to pytest.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

Proves = Callable[[str, str], None]
KEY = "proves"


def recorder(item: pytest.Item) -> Proves:
    """How a test says what it proves: `proves(scenario, client)`."""

    def prove(scenario: str, client: str) -> None:
        item.user_properties.append((KEY, (scenario, client)))

    return prove


class Collector:
    """A pytest plugin that gathers what passing tests have proved, and prints it at the end."""

    def __init__(self) -> None:
        self.found: dict[str, set[str]] = defaultdict(set)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and report.passed:
            for key, value in report.user_properties:
                if key == KEY:
                    scenario, client = cast("tuple[str, str]", value)
                    self.found[scenario].add(client)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("scenarios proved with stock clients")
        for line in self.lines():
            terminalreporter.write_line(line)

    def lines(self) -> list[str]:
        """A line for each scenario of the catalogue, those with nobody to prove them included."""
        from notnow.language import catalogue

        names = catalogue.names()
        width = max(map(len, names))
        return [f"{name:<{width}}  {', '.join(sorted(self.found[name])) or '-'}" for name in names]


if __name__ == "__main__":
    sys.exit(pytest.main([str(Path(__file__).parent), "-q", *sys.argv[1:]], plugins=[Collector()]))
