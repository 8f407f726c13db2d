"""Reports on runs that are written by hand. No sockets."""

from __future__ import annotations

from typing import Any

from conduct_playbook import Play
from notnow.conduct.finding import Finding, broken, held, inconclusive
from notnow.conduct.judging import Verdict
from notnow.conduct.pictures.report import Client, Report
from notnow.conduct.reading.result import Exit, result
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import Level, Rule

DIED = Client(("send mail", "-n", "2"), 75, duration=1.25)
BUSY = "-> !421 busy"


def rule(id: str, level: Level = "should", why: str = "Servers mind.") -> Rule:
    return Rule(id, f"It keeps {id}.", level, "RFC 5321 §4.5.4.1", why, "seen", "example", lambda _run: held())


def said(id: str, finding: Finding, level: Level = "should") -> Verdict:
    return Verdict(rule(id, level), finding)


def of(play: Play, *verdicts: Verdict, client: Client = DIED, judged: bool = True, **fields: Any) -> Report:
    """A report on a run of one server. `judged`: the result counts, too."""
    run = Run(play.journals)
    found = result(run.ledger, Exit(client.exit)) if judged else None
    where = {"host": "h", "port": 1, "seed": 7, "event": "play"}
    servers = [
        {"name": j.server, "scenario": f"{j.server}/x", "protocol": j.protocol, "url": f"{j.server}://h:1", **where}
        for j in play.journals
    ]
    known = {"speed": 1.0, "levels": ("must", "should"), "result": found, **fields}
    return Report(client, run, verdicts, servers, **known)


def lost(*servers: str) -> Play:
    """One message through, another refused until the client gives up; it came back at 1m and 3m."""
    play = Play("smtp", *servers)
    play.connect("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ". <1@x>", "MAIL FROM:<c@x> -> !421 busy")
    for gap in ("1m", "2m"):
        play.wait(gap).connect("MAIL FROM:<c@x> -> !421 busy")
    return play


def every_outcome(play: Play) -> list[Verdict]:
    """A rule with each outcome, and one that is only advice."""
    first = play.journals[0].exchanges[0]
    return [
        said("smtp.held", held("it waited 1m")),
        said("smtp.broken", broken("it came | at once", first)),
        said("smtp.lax", broken("it did", first), "advice"),
        said("smtp.open", inconclusive("nobody can tell", "another run", first)),
        said("smtp.idle", Finding("not exercised")),
    ]
