"""From invented tables to a scenario: what the loader refuses, or warns of, is left out of them.

The loader decides what goes together, so that the strategies need not know it, and know a new rule of the language as soon
as the loader does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from notnow import protocols
from notnow.chaos.strategies_values import values
from notnow.errors import Problem, ScenarioError
from notnow.language.faults import FAULT_KEYS
from notnow.language.loading import loads
from notnow.language.scenario import Scenario

Tables = dict[str, Any]
Path = tuple[str | int, ...]

NAME = "invented"
_PART = re.compile(r"\[(\d+)\]|([^.\[\]]+)")


def sound(tables: Tables) -> Scenario:
    """The scenario of these tables without what makes it invalid or doubtful. The tables are changed."""
    given: set[int] = set()  # the rules that have got a fault here
    while True:
        text = toml(tables)
        try:
            scenario = loads(text, name=NAME)
            problems = scenario.warnings
        except ScenarioError as error:
            problems = error.problems
        if not problems:
            return scenario
        for path in _of_each_rule(problems):
            _leave_out(tables, path, given)
        tables["phase"] = [phase for phase in tables["phase"] if phase["rule"] or phase is tables["phase"][-1]]


def _of_each_rule(problems: tuple[Problem, ...]) -> Iterator[Path]:
    """The path of the first problem of each rule, the last rule first, so that the numbers of the others stay."""
    found: dict[Path, Path] = {}
    for problem in problems:
        path = tuple(int(number) if number else name for number, name in _PART.findall(problem.key))
        found.setdefault(path[:4], path)
    return iter(sorted(found.values(), key=lambda path: [part for part in path if isinstance(part, int)], reverse=True))


def _leave_out(tables: Tables, path: Path, given: set[int]) -> None:
    """Remove what stands at a path. A rule that loses its last fault gets the plainest one, but only once."""
    if len(path) < 4 or path[2] != "rule":
        _remove(tables, path)
        return
    phase, number = tables["phase"][path[1]], path[3]
    rule = phase["rule"][number]
    if len(path) == 4 or not _remove(rule, path[4:]):
        del phase["rule"][number]
    elif not any(key in rule for key in FAULT_KEYS):
        if id(rule) in given:
            del phase["rule"][number]
        else:
            given.add(id(rule))
            rule.update(plainest(tables["protocol"], rule["on"][0]))


def _remove(node: Any, path: Path) -> bool:
    """Remove what stands at a path. False if that cannot be done, and the whole table has to go."""
    *above, last = path
    for part in above:
        node = node[part]
    if last == "on":
        return len(node["on"]) > 1 and bool(node["on"].pop())
    if last not in node:
        return False
    del node[last]
    return True


def plainest(protocol: str, moment: str) -> Mapping[str, Any]:
    """The plainest fault at a moment."""
    record = protocols.get(protocol)
    key = next(key for key in fault_keys(protocol, moment) if values(record, moment, key))
    return {key: values(record, moment, key)[0]}


def fault_keys(protocol: str, moment: str) -> list[str]:
    """The keys of a fault at a moment, the plainest first: the answer, a close, and the others in the order of the table."""
    record = protocols.get(protocol)
    order = [record.answer, "close", *(key for key in FAULT_KEYS if key not in (record.answer, "close"))]
    return [key for key in order if key in record.moments[moment].faults]


# ---- TOML ----------------------------------------------------------------------------------------


def toml(tables: Tables) -> str:
    """The tables of a scenario as its author would write them."""
    return "\n".join("\n".join(block) + "\n" for block in _blocks(tables))


def _blocks(tables: Tables) -> Iterator[list[str]]:
    yield _lines({key: value for key, value in tables.items() if not isinstance(value, (dict, list))})
    if tables.get("server"):
        yield ["[server]", *_lines(tables["server"])]
    for name, table in tables.get("certificate", {}).items():
        yield [f"[certificate.{name}]", *_lines(table)]
    for phase in tables["phase"]:
        yield ["[[phase]]", *_lines({key: value for key, value in phase.items() if key != "rule"})]
        for rule in phase["rule"]:
            yield ["[[phase.rule]]", *_lines(rule)]


def _lines(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_value(one)}" for name, one in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return _value(value[0]) if len(value) == 1 else "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
