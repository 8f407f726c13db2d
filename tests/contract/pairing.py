"""Which loop a case of a contract test runs on (pairwise testing).

Clients are told the same on either loop, and the tests of the adapters run on both. So each case, as a scenario with a
client, runs on one loop, chosen so that each parameter of a test still meets both. A case whose parameters are in no other
case runs on both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

Case = tuple[tuple[str, str], ...]


class Run(NamedTuple):
    """One run of a test: its loop, and its other parameters with their values."""

    loop: str
    case: Case

    def pairs(self) -> list[tuple[str, ...]]:
        """What it proves of its loop: that it works, and that it works with each value."""
        return [(self.loop,), *((self.loop, *one) for one in self.case)]


def spare(runs: Sequence[Run]) -> set[Run]:
    """The runs of a test that can be left out."""
    cases: dict[Case, list[Run]] = defaultdict(list)
    for run in runs:
        cases[run.case].append(run)
    met: Counter[tuple[str, ...]] = Counter()
    chosen = set()
    for alike in cases.values():  # on the loop that its parameters have met least
        chosen.add(least := min(alike, key=lambda run: sum(met[pair] for pair in run.pairs())))
        met.update(least.pairs())
    found = set()
    for run in runs:
        if run not in chosen:
            if all(met[pair] for pair in run.pairs()):
                found.add(run)
            else:
                met.update(run.pairs())
    return found
