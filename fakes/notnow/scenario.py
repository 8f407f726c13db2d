"""TOML to a frozen `Scenario`. All validation happens here, at load; nothing is left for run time.

A document goes through three steps: tomllib reads it, `notnow.knobs` puts the knobs in, and the models
of `notnow.grammar` check each table. What needs more than one field is checked here. Every problem found
is reported at once, with file, line, key path, what was found, what is allowed and the nearest match.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from notnow import grammar, knobs
from notnow.errors import Problem, ScenarioError, unknown
from notnow.grammar import FAULT_KEYS, Certificate, Expect, Rule, Server
from notnow.moments import CONNECTION_FACTS, MOMENTS, facts
from notnow.toml_lines import Path, key_lines, line_of, show
from notnow.units import Span

# What a reader is told where pydantic speaks of its own types.
_PLAIN = {
    "string_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
    "missing": "a value for this key",
}
_REPLACING = ("reply", "close", "stall", "alert")


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a scenario, ready to play. `lasts` is in seconds of scenario time."""

    name: str
    rules: tuple[Rule, ...] = ()
    lasts: float | None = None
    until: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A checked scenario with its knobs put in; immutable."""

    name: str
    protocol: str
    phases: tuple[Phase, ...]
    summary: str = ""
    sources: tuple[str, ...] = ()
    repeat: bool = False
    params: Mapping[str, Any] = field(default_factory=dict)
    server: Server = field(default_factory=Server)
    certificates: Mapping[str, Certificate] = field(default_factory=dict)
    expect: Expect = field(default_factory=Expect)
    faults: tuple[str, ...] = ()
    text: str = ""
    file: str = ""

    def with_knobs(self, **values: Any) -> Scenario:
        """The same scenario with other values for some of its knobs.

        Raises ScenarioError for a knob that it does not have or a value of the wrong type.
        """
        return loads(self.text, name=self.name, file=self.file, values={**self.params, **values}) if values else self

    def rules(self) -> Iterator[Rule]:
        for phase in self.phases:
            yield from phase.rules


def load(file: FilePath, *, name: str = "", values: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check a scenario file. Raises ScenarioError; `name` is what reports call it."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ScenarioError([Problem(f"cannot be read: {why}", file=str(file))]) from None
    return loads(text, name=name or str(file), file=str(file), values=values)


def loads(text: str, *, name: str = "scenario", file: str = "", values: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check the text of a scenario. Raises ScenarioError with every problem in it."""
    return _Loader(text, name, file).load(values or {})


class _Loader:
    def __init__(self, text: str, name: str, file: str) -> None:
        self.text, self.name, self.file = text, name, file
        self.problems: list[Problem] = []
        self.lines: dict[Path, int] = {}

    def report(self, path: Path, problem: Problem) -> None:
        line = problem.line or (line_of(self.lines, path) if path else None)
        place = self.file or self.name
        self.problems.append(replace(problem, key=problem.key or show(path), file=place, line=line))

    def stop_if_bad(self) -> None:
        if self.problems:
            raise ScenarioError(sorted(self.problems, key=lambda p: p.line or 0))

    def load(self, values: Mapping[str, Any]) -> Scenario:
        raw = self._parse()
        defaults = raw.get("params", {})
        if not isinstance(defaults, dict):
            defaults = {}
        settled = knobs.settle(defaults, values, self.report)
        self.stop_if_bad()
        filler = knobs.Filler(settled, self.report)
        filled = {k: filler.fill(v, (k,)) for k, v in raw.items() if k != "params"}
        for unused in [k for k in defaults if k not in filler.used]:
            self.report(("params", unused), Problem(f"nothing uses the knob {unused!r}", allowed=f"{{{unused}}} in a value"))
        document = self._validate({**filled, "params": settled})
        scenario = self._build(document)
        _Checks(scenario, self.report).run()
        self.stop_if_bad()
        return scenario

    def _parse(self) -> dict[str, Any]:
        try:
            raw = tomllib.loads(self.text)
        except tomllib.TOMLDecodeError as error:
            message, _, place = str(error).partition(" (at line ")
            line = int(place.split(",")[0]) if place else None
            self.report((), Problem(f"not valid TOML: {message[:1].lower()}{message[1:]}", line=line))
            self.stop_if_bad()
            raise
        self.lines = key_lines(self.text)
        return raw

    def _validate(self, raw: dict[str, Any]) -> grammar.Document:
        try:
            document = grammar.Document.model_validate(raw)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self.report(*_problem(detail))
            self.stop_if_bad()
            raise
        self.stop_if_bad()
        return document

    def _build(self, document: grammar.Document) -> Scenario:
        phases = [
            Phase(
                name=phase.name or f"phase {i + 1}",
                rules=tuple(self._named(rule, document, ("phase", i, "rule", j)) for j, rule in enumerate(phase.rule)),
                lasts=phase.lasts,
                until=phase.until or {},
            )
            for i, phase in enumerate(document.phase)
        ]
        return Scenario(
            name=self.name,
            protocol=document.protocol,
            phases=tuple(phases) or (Phase("healthy"),),
            summary=document.summary,
            sources=tuple(document.sources),
            repeat=document.repeat,
            params=document.params,
            server=document.server,
            certificates=document.certificate,
            expect=document.expect,
            faults=tuple(document.fault),
            text=self.text,
            file=self.file,
        )

    def _named(self, rule: Rule, document: grammar.Document, path: Path) -> Rule:
        """The rule with the fault that it takes by name; what the rule says itself goes first."""
        if rule.fault is None:
            return rule
        if rule.fault not in document.fault:
            self.report((*path, "fault"), unknown("fault", rule.fault, document.fault))
            return rule
        fault = document.fault[rule.fault]
        own = {k: getattr(fault, k) for k in fault.model_fields_set if k not in rule.model_fields_set}
        return rule.model_copy(update=own)


def _problem(detail: ErrorDetails) -> tuple[Path, Problem]:
    """A pydantic error in our form."""
    path = tuple(detail["loc"])
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        table = _table_at(path[:-1])
        return path, unknown("key", str(path[-1]), table.model_fields if table else ())
    if kind == "notnow":
        return path, Problem(f"found {_shown(value)}", allowed=context["allowed"], nearest=context["nearest"])
    if kind == "missing":
        return path[:-1] or path, Problem(f"the key {path[-1]!r} is missing", allowed=_description(path))
    if kind == "greater_than_equal":
        return path, Problem(f"found {_shown(value)}", allowed=f"{context['ge']} or more")
    return path, Problem(f"found {_shown(value)}", allowed=_PLAIN.get(kind, detail["msg"]))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (dict, BaseModel)):
        return "a table"
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


_BY_NAME: dict[str, type[grammar.Table]] = {
    "phase": grammar.Phase,
    "rule": Rule,
    "fault": grammar.Fault,
    "server": Server,
    "certificate": Certificate,
    "expect": Expect,
    "delivered": grammar.Delivered,
    "retried": grammar.Retried,
    "never_exceeded": grammar.Exceeded,
}


def _table_at(path: Path) -> type[grammar.Table] | None:
    """The model of the table at a path: `("phase", 0, "rule", 1)` is a Rule."""
    if not path:
        return grammar.Document
    named = [part for part in path if part in _BY_NAME]
    return _BY_NAME[str(named[-1])] if named else None


def _description(path: Path) -> str:
    table = _table_at(path[:-1])
    field_ = table.model_fields.get(str(path[-1])) if table else None
    return (field_.description or "") if field_ else ""


class _Checks:
    """What takes more than one field to see."""

    def __init__(self, scenario: Scenario, report: knobs.Report) -> None:
        self.scenario, self.report = scenario, report
        self.moments = MOMENTS[scenario.protocol]

    def run(self) -> None:
        last = len(self.scenario.phases) - 1
        for i, phase in enumerate(self.scenario.phases):
            path: Path = ("phase", i)
            if i == last and not self.scenario.repeat and (phase.lasts is not None or phase.until):
                key = "lasts" if phase.lasts is not None else "until"
                self.report(
                    (*path, key),
                    Problem("the last phase never ends", allowed=f"no {key!r} here, a further [[phase]], or repeat = true"),
                )
            if phase.lasts == 0:
                self.report((*path, "lasts"), Problem("found 0 seconds", allowed="a time above zero"))
            for moment in phase.until:
                self._moment(moment, (*path, "until"), knowing=("enter", "error", "idle"))
            for j, rule in enumerate(phase.rules):
                self._rule(rule, (*path, "rule", j))

    def _moment(self, name: str, path: Path, knowing: tuple[str, ...] = ()) -> None:
        allowed = [m for m in self.moments if m not in knowing]
        if name not in allowed:
            self.report(path, unknown("moment", name, allowed))

    def _rule(self, rule: Rule, path: Path) -> None:
        for name in rule.on:
            self._moment(name, (*path, "on"))
        known = [self.moments[name] for name in rule.on if name in self.moments]
        if len(known) < len(rule.on):
            return
        self._faults(rule, path)
        self._where(rule, path)
        self._conditions(rule, path)

    def _faults(self, rule: Rule, path: Path) -> None:
        for key in FAULT_KEYS:
            if getattr(rule, key) is None:
                continue
            for name in rule.on:
                if key not in self.moments[name].faults:
                    may = ", ".join(sorted(self.moments[name].faults))
                    self.report((*path, key), Problem(f"{key!r} cannot be done at {name!r}", allowed=may))
        if rule.stall and (rule.reply is not None or rule.close):
            self.report((*path, "stall"), Problem("a stalled answer has no reply and no close", allowed="one of them"))
        if rule.keep is not None and rule.reply is None and not rule.close:
            self.report((*path, "keep"), Problem("'keep' goes with a reply or a close", allowed="a 'reply' beside it"))
        if rule.after_bytes is not None and not any(getattr(rule, k) for k in _REPLACING):
            self.report((*path, "after_bytes"), Problem("nothing is done after these bytes", allowed="a reply, close or stall"))
        if rule.certificate is not None and rule.certificate not in self.scenario.certificates:
            self.report((*path, "certificate"), unknown("certificate", rule.certificate, self.scenario.certificates))

    def _where(self, rule: Rule, path: Path) -> None:
        here = CONNECTION_FACTS.union(*(self.moments[m].facts for m in rule.on))
        if "any" in rule.on:
            here = facts(self.scenario.protocol) - {"header"}
        for name, wanted in (rule.where or {}).items():
            place = (*path, "where", name)
            if name not in facts(self.scenario.protocol):
                self.report(place, unknown("fact", name, sorted(facts(self.scenario.protocol))))
            elif name not in here:
                at = ", ".join(m for m, moment in self.moments.items() if name in moment.facts)
                self.report(place, Problem(f"{name!r} is not known at {' or '.join(rule.on)}", allowed=f"at {at}"))
            elif name == "header":
                if not isinstance(wanted, dict):
                    self.report(place, Problem(f"found {_shown(wanted)}", allowed='header.NAME, such as header.subject = "*sale*"'))
                else:
                    for header, value in wanted.items():
                        self._wanted(value, (*place, header))
            else:
                self._wanted(wanted, place)

    def _wanted(self, value: Any, path: Path) -> None:
        for item in value if isinstance(value, list) else [value]:
            if not isinstance(item, (str, int, bool)):
                self.report(path, Problem(f"found {_shown(item)}", allowed='a glob, a value, a list of them, or "none"'))

    def _conditions(self, rule: Rule, path: Path) -> None:
        idle = "idle" in rule.on
        if idle and len(rule.on) > 1:
            self.report((*path, "on"), Problem("'idle' stands alone", allowed="a rule of its own for 'idle'"))
        if idle and not isinstance(rule.after, Span):
            self.report(path, Problem("'idle' needs the length of the silence", allowed='after = "5m"'))
        if idle and rule.over is not None:
            self.report((*path, "over"), Problem("'over' does not count idle spells", allowed="after, since, where, nth, times, chance"))
        if rule.since is not None and not idle:
            self.report((*path, "since"), Problem("'since' goes with on = \"idle\"", allowed="remove it"))
        if rule.since == "transfer" and self.scenario.protocol != "ftp":
            self.report((*path, "since"), Problem("found 'transfer'", allowed="any, connect"))
        if rule.within is not None and rule.over is None:
            self.report((*path, "within"), Problem("'within' goes with 'over'", allowed="over = N beside it"))
        for name in rule.per:
            at = [m for m in rule.on if name in ("sender", "recipient") and name not in self.moments[m].facts and m != "any"]
            if at:
                self.report((*path, "per"), Problem(f"{name!r} is not known at {at[0]!r}", allowed="server, client, connection, user"))


class _Callable(ModuleType):
    """`from notnow import scenario` is a function, and `notnow.scenario` is this module; importing the
    module would hide the function. So the module can be called as well."""

    def __call__(self, name: str, **values: Any) -> Scenario:
        from notnow.catalogue import scenario

        return scenario(name, **values)


sys.modules[__name__].__class__ = _Callable

__all__ = ["Phase", "Rule", "Scenario", "load", "loads"]

