"""The verdict on a run, for readers: in words, and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from notnow.conduct.judging import Verdict
from notnow.conduct.reading.ledger import Item, Ledger, Try
from notnow.journal import Connection, Exchange
from notnow.terminal import safe
from notnow.units import plural, show

MOST = 10  # pieces of evidence shown for one verdict
TRIES = 5  # tries shown of one item


def offenders(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.outcome == "broken"]


def in_words(verdict: Verdict, zero: float | None = None) -> str:
    """The verdict as a paragraph: the outcome, the rule, the reason and the evidence; `zero` as in `details`."""
    rule = verdict.rule
    head = f"{verdict.outcome}: {rule.id} ({rule.level}): {rule.title}"
    return "\n".join([head, *(f"    {line}" for line in details(verdict, zero))])


def details(verdict: Verdict, zero: float | None = None) -> list[str]:
    """The reason, for a broken rule the evidence and the source, and what would settle an inconclusive one.

    Each is a line, safe to print.

    `zero` is the start of the run in scenario seconds; without it, each server's first connection is the start.
    """
    rule, finding = verdict.rule, verdict.finding
    lines = [finding.why] if finding.why else []
    if finding.outcome == "broken":
        explained = f"; `notnow conduct {rule.id}` explains it" if rule.why else ""
        lines += [proof(evidence, zero) for evidence in finding.evidence[:MOST]]
        if len(finding.evidence) > MOST:
            lines.append(f"… and {len(finding.evidence) - MOST} more")
        lines.append(rule.source + explained)
    elif finding.outcome == "inconclusive":
        lines += [proof(evidence, zero) for evidence in finding.evidence[:MOST]]
        lines.append(f"{finding.settled_by} would settle it")
    return list(map(safe, lines))


def proof(evidence: Exchange | Connection, zero: float | None = None) -> str:
    """A piece of evidence as a line."""
    connection = evidence if isinstance(evidence, Connection) else evidence.connection
    if zero is None:
        zero = next((c.opened_at for c in connection.journal.connections), 0.0)
    who = f"{connection.server} #{connection.number}"
    if isinstance(evidence, Connection):
        return f"{who}, opened at {show(max(0.0, evidence.opened_at - zero))}"
    asked = evidence.request or evidence.moment
    return f"{who} at {show(max(0.0, evidence.at - zero))}: {asked} -> {evidence.told}"


def story(item: Item, zero: float) -> str:
    """The tries of an item in a line, safe to print: when each was, how it ended, and what the client did after the last."""
    return safe(_tries(item.tries, zero) + (_then(item.tries[-1]) if item.tries[-1].failed else ""))


def nameless(items: int, ledger: Ledger, zero: float) -> str:
    """Items that the wire does not name, in a line, with the refusals that may have been theirs."""
    failed = [one for one in ledger.nameless if one.failed]
    refused = f"; refused before it was named: {_tries(failed, zero)}" if failed else ""
    return safe(f"{plural(items, 'item')} that the wire does not name{refused}")


def _tries(tries: Sequence[Try], zero: float) -> str:
    said = [f"{show(max(0.0, one.started_at - zero))} {ending(one)}" for one in tries]
    if len(said) > TRIES:
        said = [*said[: TRIES - 1], f"… {len(said) - TRIES} more …", said[-1]]
    return ", ".join(said)


def _then(last: Try) -> str:
    """What the client said next on the connection where it was refused, or that it left."""
    by, connection = last.by, last.connection
    if not isinstance(by, Exchange):
        return ""
    later = next((x.request for x in connection.exchanges if x.index > by.index and x.request), "")
    words = later or connection.after.partition("\r\n")[0]
    return f"; next it said {words[:60]!r}" if words else "; next it left" if connection.ended_by == "client" else ""


def ending(one: Try) -> str:
    """How a try ended, in words."""
    if isinstance(one.by, Connection):
        return "asked for after the server had closed"
    told = one.by.told if one.by.reply or one.by.closed else one.ending
    return f"{one.by.moment}: {told}"


def as_dict(verdict: Verdict, most: int | None = None) -> dict[str, Any]:
    """A verdict as plain data, for JSON; with `most`, that many pieces of evidence, and the number of the others."""
    rule, finding = verdict.rule, verdict.finding
    return {
        "rule": rule.id,
        "level": rule.level,
        "outcome": finding.outcome,
        "why": finding.why,
        **({"settled_by": finding.settled_by} if finding.settled_by else {}),
        "evidence": [evidence.as_dict() for evidence in finding.evidence[:most]],
        **({"evidence_left_out": len(finding.evidence[most:])} if most is not None else {}),
        "title": rule.title,
        "source": rule.source,
    }
