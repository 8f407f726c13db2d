"""Postfix under `notnow try --fake-time`: its schedule of hours, as it comes, in seconds.

It is the example of docs/how-to/judge.md that is run. A machine under load makes gaps longer, as scenario time runs on,
and never shorter: so that is what is asserted.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import programs
import pytest

from cli_process import Notnow

RELAY = Path(__file__).parents[1] / "examples" / "postfix" / "relay.sh"
SHORTEST, LONGEST = 300.0, 4000.0  # seconds: minimal_backoff_time and maximal_backoff_time of Postfix
SLACK = 10.0  # seconds, of which Postfix counts only whole ones


@pytest.fixture(autouse=True)
def needed() -> None:
    programs.need("postfix", "postfix")
    programs.need("faketime", "faketime")
    programs.need_root("Postfix is started by root only")


def test_a_schedule_of_hours_takes_seconds() -> None:
    words = ["smtp/overload", "--set", "outage=90m", "--speed", "900", "--fake-time", "--timeout", "45s"]
    with Notnow("try", *words, "--level", "advice", "--json", "--", "sh", str(RELAY), "{host}", "{port}") as notnow:
        code, out, errors = notnow.end()
    assert code == 0, errors
    report = json.loads(out)
    assert (report["outcome"], report["client"]["exit"]) == ("well behaved", 0)
    assert {"smtp.wait-before-retry", "smtp.intervals-grow", "smtp.tries-again", "smtp.no-second-copy"} <= {
        one["rule"] for one in report["verdicts"] if one["outcome"] == "held"
    }

    exchanges = [entry for entry in report["journals"]["smtp"] if entry["event"] == "exchange"]
    connects = [x for x in exchanges if x["moment"] == "connect"]
    came = [x["at"] - connects[0]["at"] for x in connects]
    # Five minutes at first, then as long as the message has been waiting, up to the limit.
    gaps = [later - before for before, later in pairwise(came)]
    least = [min(max(waited, SHORTEST), LONGEST) for waited in came]
    assert len(gaps) >= 3
    assert [gap for gap, enough in zip(gaps, least, strict=False) if gap < enough - SLACK] == []
    # And the first try after the outage delivers it, once.
    assert [x["phase"] for x in connects] == ["overloaded"] * len(gaps) + ["recovered"]
    assert [x["reply"][:3] for x in exchanges if x["moment"] == "message"] == ["250"]
