"""The number that each event has among those of its moment, as the engine counts them: a journal has exchanges only."""

from __future__ import annotations

from collections import Counter

from notnow import protocols
from notnow.chaos.replay.entries import Line

_ANSWERS_TLS = ("220", "234")  # to STARTTLS (RFC 3207 §4), and to AUTH (RFC 4217 §4)


class Places:
    """Counts the events of a stretch. `of` wants the exchanges in their order."""

    def __init__(self, protocol: str, tls: str, before: Line | None = None) -> None:
        """`before` is the command that ended the phase before by its number: the reply to it comes in this one."""
        self._protocol, self._tls = protocols.get(protocol), tls
        self._counts: Counter[str] = Counter(error=_errors(before) if before is not None else 0)
        self._transfers: dict[int, dict[str, int]] = {}  # of each connection, the places of its last transfer
        self._standing: dict[int, str] = {}  # connections on which one rule answers everything, and that rule

    def of(self, x: Line) -> dict[str, int]:
        """The moments that an exchange is an event of, each with its number there; empty if no rule was asked."""
        if x.moment in ("error", "tls"):
            return {x.moment: self._counts[x.moment]}
        self._counts["error"] += _errors(x)
        if x.moment in ("transfer", "body"):  # what a rule did in the middle, with an exchange of its own
            return self._transfers.get(x.connection, {})
        found = {moment: self._next(moment) for moment in self._moments(x)}
        self._note(x, found)
        return found

    def _next(self, moment: str) -> int:
        self._counts[moment] += 1
        return self._counts[moment]

    def _moments(self, x: Line) -> list[str]:
        if x.moment == "request":
            return self._of_request(x)
        found = [x.moment] if x.moment in self._protocol.moments else []
        if self._protocol.is_command(x.moment):
            found.append("any")
        if x.moment == "pass" and (230 in x.codes or x.rule):
            found.append("login")
        if x.moment == "data" and 354 in x.codes:
            found.append("body")
        return [*found, *self._of_transfer(x)]

    def _of_request(self, x: Line) -> list[str]:
        if (x.fault == "goaway" and x.rule is None) or str(x.rule).startswith("server."):
            return []
        if x.rule is not None and self._standing.get(x.connection) == x.rule:
            return []
        return ["request", "any", "response"] if x.facts.get("status") is not None or x.rule else ["request", "any"]

    @staticmethod
    def _of_transfer(x: Line) -> list[str]:
        if "direction" not in x.facts:
            return []
        opened = any(code < 200 for code in x.codes)
        return ["transfer", *(["data"] if opened else []), *(["complete"] if opened and x.facts.get("whole") else [])]

    def _note(self, x: Line, found: dict[str, int]) -> None:
        if "transfer" in found or "body" in found:
            self._transfers[x.connection] = found
        if x.moment == "connect" and x.rule is not None:
            self._standing[x.connection] = x.rule
        if x.moment == "connect" and self._tls == "implicit" and (x.end is None or x.reply):
            self._next("tls")
        if x.moment in ("starttls", "auth") and x.reply is not None and x.reply.startswith(_ANSWERS_TLS):
            self._next("tls")


def _errors(x: Line) -> int:
    """How many refusals it has after which something may be said: nothing is said after a close."""
    return sum(code >= 400 for code in x.codes) if x.end is None else 0
