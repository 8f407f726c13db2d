"""What clients do about a failed attempt: waits, stops, guards, the text that composes them, and the user's own code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from notnow.chaos.policies import calls, language
from notnow.chaos.policies.fitted import parts_of_recording
from notnow.chaos.policies.language import Parts
from notnow.chaos.policies.libraries import parts_of
from notnow.chaos.policies.policy import Policy
from notnow.chaos.policies.waits import Listed
from notnow.errors import shown

__all__ = ["Policy", "policy"]

RECORDINGS = (".json", ".jsonl")
OWN = (
    "a text; a tenacity wait, stop or Retrying; a stamina caller; a function that one of these has decorated; a urllib3 Retry; "
    "a list of seconds; a function of the attempt"
)


def policy(given: Any, *, name: str = "", load: Callable[[str], Any] | None = None) -> Policy:
    """The policy that a text, or an object of the user's, stands for. Raises ScenarioError.

    `load` gives the object of a name such as `mine:wait`; without it, a text has no such name. `name` is what an object
    is called in messages.
    """
    if isinstance(given, Policy):
        return given
    if not isinstance(given, str):
        name = name or _name(given)
        return language.composed(name, _own(name, given), own=True)
    parts: Parts = []
    name = given.strip()
    for term in language.terms(given):
        if term.endswith(RECORDINGS):
            words, more = parts_of_recording(term)
            name = name.replace(term, f"{term} [{words}]")
        else:
            more = _term(term, given, load)
        parts += more
    return language.composed(name, parts, own=any(isinstance(p, (calls.Own, calls.Drawn)) for _, p in parts))


def _term(term: str, text: str, load: Callable[[str], Any] | None) -> Parts:
    if ":" not in term or "(" in term:
        return [language.part(term, text)]
    if load is None:
        raise language.bad(text, f"{term!r} names an object", "the object itself, in Python")
    return _own(term, load(term))


def _own(name: str, given: Any) -> Parts:
    """What an object of the user's adds to a policy; its code is tried first."""
    parts = parts_of(name, given)
    if parts is None and isinstance(given, Sequence) and not isinstance(given, str):
        waits = tuple(calls.checked(name, n, one) for n, one in enumerate(given, 1))
        parts = [("wait", Listed(waits))] if waits else None
    elif parts is None and isinstance(given, str):
        parts = [language.part(term, given) for term in language.terms(given)]
    elif parts is None and callable(given) and not isinstance(given, type):
        parts = [("wait", calls.of_function(name, given))]
    if parts is None:
        raise language.bad(name, f"{shown(given)} is no policy", OWN)
    for _, part in parts:
        if isinstance(part, (calls.Own, calls.Drawn)):
            calls.tried(name, part)
    return parts


def _name(given: Any) -> str:
    found = getattr(given, "__qualname__", None) or type(given).__name__
    return str(list(given)) if isinstance(given, (list, tuple)) else found
