"""Scenarios for tests, written as the TOML of their rules."""

from __future__ import annotations

import json

from notnow import Scenario
from notnow.language.loading import loads


def one(on: str | list[str], **keys: object) -> str:
    """The TOML of one rule: `one("mail", reply="421 no")`."""
    return "[[phase.rule]]\n" + "".join(f"{k} = {_toml(v)}\n" for k, v in {"on": on, **keys}.items())


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_toml(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)


def rules(*texts: str, protocol: str = "smtp", head: str = "", phase: str = "") -> Scenario:
    """A scenario of these rules. `head` stands above its phase and `phase` in it; a text may begin further phases."""
    return loads("\n".join([f'protocol = "{protocol}"', head, '[[phase]]\nname = "one"', phase, *texts]), name="test")


def then(name: str, *texts: str, **keys: object) -> str:
    """The TOML of a further phase."""
    return "\n".join([f'[[phase]]\nname = "{name}"', *(f"{k} = {_toml(v)}" for k, v in keys.items()), *texts])
