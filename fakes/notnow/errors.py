"""The errors of notnow, a closed set.

    NotNowError
    ├── ScenarioError (ValueError)     an invalid scenario, knob or option; one Problem for each mistake
    ├── StartError (OSError)           a fake could not start: the port is taken, the address is not local
    ├── NotRunningError (RuntimeError) a call needs a fake that runs, and this one does not, or was stopped meanwhile
    │   └── LostError                  a call needs the other replicas, and the Redis in which they count together is away
    ├── WaitTimeoutError (TimeoutError)  wait_for() timed out
    ├── ControlError (RuntimeError)    a control API cannot be reached, or has refused a call
    ├── FastForwardError (RuntimeError)  fast_forward met a wait that it cannot move
    │   └── DeadlockError              every thread waits, and nothing is due that could end a wait
    └── FakeError (RuntimeError)       our own adapter failed: a bug in notnow, never part of a scenario

    ScenarioWarning (UserWarning)      a legal scenario in which something probably has no effect

Broken expectations are plain `AssertionError`s, for pytest.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class NotNowError(Exception):
    """The base of every error that notnow raises."""


class Problem(NamedTuple):
    """One mistake in a scenario or an option: its place, the value found, the allowed values.

    `hint` says what to do next. `warning`: legal, but probably not what the author meant. `about`: the server option
    that decides this.
    """

    found: str
    allowed: str = ""
    key: str = ""
    file: str = ""
    line: int | None = None
    nearest: str | None = None
    hint: str = ""
    warning: bool = False
    about: str = ""

    def __str__(self) -> str:
        place = self.file + (f":{self.line}" if self.file and self.line else "")
        parts = [p for p in (place, "warning" if self.warning else "", self.key) if p]
        text = ": ".join([*parts, self.found])
        if self.allowed:
            text += f"; allowed: {self.allowed}"
        if self.hint:
            text += f"; {self.hint}"
        if self.nearest is not None:
            text += f"; did you mean {self.nearest!r}?"
        return text


class ScenarioError(NotNowError, ValueError):
    """A scenario, knob or option is invalid.

    `problems` has one entry for each mistake; `str()` has a line for each.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class ScenarioWarning(UserWarning):
    """A scenario is legal, but something in it probably does not do what its author meant."""


class StartError(NotNowError, OSError):
    """A fake could not listen on its address."""


class NotRunningError(NotNowError, RuntimeError):
    """A call needs a fake that is running. This one has not been started, or has been stopped, perhaps during the call."""


class LostError(NotRunningError):
    """A call needs the other replicas of a shared service, and their Redis cannot be reached. Nothing has changed."""


class WaitTimeoutError(NotNowError, TimeoutError):
    """`wait_for` timed out before its predicate held."""


class ControlError(NotNowError, RuntimeError):
    """A control API cannot be reached, or has refused a call."""


class FastForwardError(NotNowError, RuntimeError):
    """`fast_forward` met a wait that it cannot move."""


class DeadlockError(FastForwardError):
    """Under `fast_forward`, every thread waits, and nothing is due that could end one of these waits."""


class FakeError(NotNowError, RuntimeError):
    """Our own adapter failed. This is a bug in notnow, and never part of a scenario."""


def shown(value: object) -> str:
    """A value as an error quotes it: short, in TOML's notation."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a table"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """The choice nearest to `word`, if one is near enough."""
    import difflib

    folded = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(word.lower(), list(folded), n=1, cutoff=0.6)
    return folded[close[0]] if close else None


def unknown(what: str, word: str, choices: Iterable[str], **where: object) -> Problem:
    """The problem "there is no such …", with the known names and the nearest one."""
    known = list(choices)
    return Problem(
        found=f"there is no {what} {shown(word)}",
        allowed=", ".join(known) or "none",
        nearest=nearest(word, known),
        **where,  # type: ignore[arg-type]
    )
