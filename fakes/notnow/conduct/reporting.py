"""The report on a run of fakes that share a clock: the result, the verdicts and the expectations, on the user's terms."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from notnow.conduct import expected
from notnow.conduct.baseline import NOTHING_KNOWN, Known
from notnow.conduct.judging import judge
from notnow.conduct.pictures.report import Client, Report
from notnow.conduct.reading.result import result
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import Level, Rule
from notnow.errors import NotRunningError

REST = 2.0  # real seconds that a judge waits for clients that never pause


class Fake(expected.Judged, Protocol):
    """A fake, to those who judge its clients."""

    def settle(self, patience: float | None = None) -> None:
        """Return when everything that is due, or has arrived, has been carried out. Raises TimeoutError after so many seconds."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms a client is judged.

    A broken rule of one of the `levels` fails it. `expected`: by the scenario's expectations, too. `accepted` are the
    results that the user accepts; `count` is how many items the client was given; `proxy`: it is an intermediary; what
    the `baseline` knows fails nobody.
    """

    rules: Sequence[Rule]
    levels: Collection[Level]
    expected: bool = True
    accepted: Collection[str] = ()
    count: int | None = None
    proxy: bool = False
    baseline: Known = NOTHING_KNOWN


def report(
    fakes: Sequence[Fake], client: Client, servers: Sequence[Mapping[str, Any]], speed: float, terms: Terms
) -> Report:
    """Judge what clients did on these fakes since their last play. `servers` says where each of them listens."""
    for fake in fakes:
        with contextlib.suppress(TimeoutError, NotRunningError):  # a client in the background may never be idle
            fake.settle(REST)
    run = Run([fake.journal for fake in fakes], [fake.scenario for fake in fakes], proxy=terms.proxy, count=terms.count)
    found = result(run.ledger, client.ended, terms.count)
    accepted = found.word if found.word in terms.accepted else ""
    verdicts = judge(run, terms.rules, accepted=accepted)
    if terms.expected:
        verdicts += expected.judge(fakes, run, count=terms.count, accepted=accepted)
    return Report(
        client,
        run,
        verdicts,
        servers,
        speed,
        terms.levels,
        result=found if terms.expected else None,
        accepted=terms.accepted,
        baseline=terms.baseline,
    )
