"""The text of a policy: `exponential(base=1m, cap=1h, jitter=full) + attempts(8)`. Nothing in it is ever run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from notnow.chaos.policies.policy import Policy
from notnow.chaos.policies.values import REQUIRED, Parameter
from notnow.chaos.policies.words import WORDS, Role, Word
from notnow.errors import Problem, ScenarioError, shown, unknown

_CALL = re.compile(r"\s*([A-Za-z_]+)\s*(?:\((.*)\))?\s*", re.DOTALL)
FORM = 'words joined by +, such as "exponential(base=1m, cap=1h, jitter=full) + attempts(8)"'
KEY = "policy"

Parts = list[tuple[Role, Any]]


def terms(text: str) -> list[str]:
    """The terms of a text, which a + outside parentheses parts. Raises ScenarioError."""
    found, depth, term = [], 0, ""
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == "+" and not depth:
            found.append(term.strip())
            term = ""
        else:
            term += char
    found.append(term.strip())
    if depth or not all(found):
        raise bad(
            text,
            "a parenthesis is missing" if depth else "a word is missing beside a +" if text.strip() else "it is empty",
        )
    return found


def composed(name: str, parts: Parts, *, own: bool = False) -> Policy:
    """The policy of these parts. Raises ScenarioError unless one of them is a wait."""
    of = {role: [part for other, part in parts if other == role] for role in ("wait", "stop", "guard", "heeds")}
    if len(of["wait"]) != 1:
        several = "it has several waits" if of["wait"] else "it has no wait"
        raise bad(name, several, "one of " + ", ".join(word for word, one in WORDS.items() if one.role == "wait"))
    return Policy(name, of["wait"][0], tuple(of["stop"]), tuple(of["guard"]), bool(of["heeds"]), own)


def part(term: str, text: str) -> tuple[Role, Any]:
    """What a term stands for: its role in the policy, and what plays it. Raises ScenarioError."""
    match = _CALL.fullmatch(term)
    if match is None:
        raise bad(text, f"{term!r} cannot be read")
    if match[1] not in WORDS:
        raise ScenarioError([unknown("word", match[1], WORDS, key=_key(text))])
    word = WORDS[match[1]]
    arguments = [one.strip() for one in match[2].split(",")] if (match[2] or "").strip() else []
    values = _many(word, arguments, text) if word.many else _values(match[1], word, arguments, text)
    if word.role == "guard":
        return "guard", lambda: word.make(*values)
    return word.role, word.make(tuple(values)) if word.many else word.make(*values)


def _many(word: Word, arguments: Sequence[str], text: str) -> list[Any]:
    if not arguments:
        raise bad(text, "waits() has no wait", "one or more, such as waits(1m, 5m, 15m)")
    return [_value(word.parameters[0], one, text) for one in arguments]


def _values(name: str, word: Word, arguments: Sequence[str], text: str) -> list[Any]:
    """The values of a word, in the order of its parameters."""
    names = [one.name for one in word.parameters]
    given: dict[str, str] = {}
    for place, argument in enumerate(arguments):
        key, equals, value = (part.strip() for part in argument.partition("="))
        if not equals:
            if place >= len(names):
                raise bad(text, f"{name} has {len(arguments)} values", f"{len(names)}: {', '.join(names) or 'none'}")
            key, value = names[place], argument
        if key not in names:
            raise ScenarioError([unknown(f"parameter of {name}", key, names, key=_key(text))])
        if key in given:
            raise bad(text, f"{key} of {name} is given twice")
        given[key] = value
    return [_value(one, given.get(one.name), text, name) for one in word.parameters]


def _value(parameter: Parameter, text: str | None, whole: str, word: str = "waits") -> Any:
    if text is None:
        if parameter.default is REQUIRED:
            raise bad(whole, f"{word} lacks {parameter.name}", parameter.kind.allowed)
        return parameter.default
    value = parameter.kind.read(text)
    if value is None:
        raise bad(whole, f"{parameter.name} of {word} is {shown(text)}", parameter.kind.allowed)
    return value


def bad(text: str, found: str, allowed: str = FORM) -> ScenarioError:
    """The error about a policy, with its text."""
    return ScenarioError([Problem(found, allowed=allowed, key=_key(text))])


def _key(text: str) -> str:
    return f"{KEY} {shown(text)}" if text.strip() else KEY
