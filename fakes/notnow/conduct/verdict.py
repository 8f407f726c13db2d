"""The verdict on a run, for readers: in words, and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from notnow.conduct.rules import Verdict
from notnow.journal import Connection, Exchange


def offenders(verdicts: Sequence[Verdict]) -> list[Verdict]:
    return [verdict for verdict in verdicts if verdict.outcome == "broken"]


def in_words(verdict: Verdict) -> str:
    """One paragraph: the outcome, the rule, why, and what proves it."""
    rule, finding = verdict.rule, verdict.finding
    lines = [f"{finding.outcome}: {rule.id} ({rule.level}): {rule.title}"]
    if finding.why:
        lines.append(f"    {finding.why}")
    if finding.outcome == "broken":
        lines.append(f"    {rule.source}; `notnow conduct {rule.id}` explains it")
        lines += [f"    {proof(evidence)}" for evidence in finding.evidence]
    return "\n".join(lines)


def proof(evidence: Exchange | Connection) -> str:
    """A piece of evidence in a line."""
    if isinstance(evidence, Connection):
        return f"{evidence.server} #{evidence.number}, opened at {evidence.opened_at:.3f} s"
    where = f"{evidence.connection.server} #{evidence.connection.number}"
    said = (evidence.reply or "(nothing)").splitlines()
    return f"{where} at {evidence.at:.3f} s: {evidence.request or evidence.moment} -> {said[-1] if said else ''}"


def as_dict(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data, for JSON."""
    rule, finding = verdict.rule, verdict.finding
    return {
        "rule": rule.id,
        "level": rule.level,
        "outcome": finding.outcome,
        "why": finding.why,
        "evidence": [evidence.as_dict() for evidence in finding.evidence],
        "title": rule.title,
        "source": rule.source,
    }
