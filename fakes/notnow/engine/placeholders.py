"""The texts of the placeholders that a reply fills in as it is sent."""

from __future__ import annotations

import math
from email.utils import formatdate

from msgspec import Struct

from notnow.engine.connection import FiredRule
from notnow.engine.events import Facts
from notnow.language.condition import Quota
from notnow.language.conditions import limit
from notnow.language.knobs import LATE, TIMES
from notnow.units import Span


class Placeholders(Struct, frozen=True):
    """What the placeholders of one answer depend on.

    `facts` are those of the connection, `port` is that of the server, `now` is when the answer is sent, `phase_ends` the
    end of the phase that plays (infinite if it lasts), and `epoch` the wall time at scenario time 0.
    """

    fired: FiredRule
    facts: Facts
    now: float
    port: int
    phase_ends: float
    epoch: float

    def text(self, name: str) -> str:
        """The text of a placeholder; empty if nothing here has that value."""
        if name in TIMES:
            return self._time(*name.split("."))
        if name == "remaining":
            remaining = None if self.fired.quota is None else self.fired.quota.remaining
            return "" if remaining is None else str(remaining)
        if name in LATE:  # the adapter fills it in
            return f"{{{name}}}"
        if name == "limit":
            return self._limit()
        return str(self.port if name == "port" else self.facts.get(name, ""))

    def _time(self, span: str, unit: str) -> str:
        quota, decided = self.fired.quota or Quota(), self.fired.at
        left = 0.0 if self.phase_ends == math.inf else self.phase_ends - decided
        seconds = {"left": left, "wait": quota.wait, "reset": quota.reset}[span]
        return "" if seconds is None else self._in_unit(max(0.0, seconds + decided - self.now), unit)

    def _in_unit(self, seconds: float, unit: str) -> str:
        """A span of time, rounded up so that a client that waits that long is not too early."""
        if unit == "ms":
            return str(math.ceil(round(seconds * 1000, 6)))
        if unit == "seconds":
            return str(math.ceil(round(seconds, 6)))
        at = math.ceil(round(self.epoch + self.now + seconds, 6))
        return str(at) if unit == "epoch" else formatdate(at, usegmt=True)

    def _limit(self) -> str:
        """The number of the rule that fired, or of the one whose quota is reported."""
        rules = (self.fired.rule, self.fired.limit)
        numbers = (limit(rule.definition) for rule in rules if rule is not None)
        number = next((number for number in numbers if number is not None), "")
        return f"{number:.15g}" if isinstance(number, Span) else str(number)
