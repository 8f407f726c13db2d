"""TOML to a frozen `Scenario`. All validation happens here, at load; nothing is left for run time.

A document goes through four steps: tomllib reads it, `notnow.language.knobs` puts the knobs in, the records of
`notnow.language.grammar` are read table by table, and `notnow.language.checks` checks the fields against each other. All
problems are reported at once, each with file, line, key path, what was found, what is allowed and the nearest match.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path as FilePath
from typing import Any

from msgspec.structs import replace

from notnow.errors import Problem, ScenarioError, shown, unknown
from notnow.language import advice, facts, knobs, tables
from notnow.language.checks import Checks
from notnow.language.doubts import Doubts
from notnow.language.faults import FAULT_KEYS
from notnow.language.grammar import Document, Rule
from notnow.language.limits import NUMBER
from notnow.language.scenario import Phase, Scenario
from notnow.language.toml_lines import Path, key_lines, line_of, show


def load(file: FilePath, *, name: str = "", knobs: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check a scenario file. Raises ScenarioError; `name` is what reports call it."""
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
        why = getattr(error, "strerror", None) or str(error)
        raise ScenarioError([Problem(f"cannot be read: {why}", file=str(file))]) from None
    return loads(text, name=name or str(file), file=str(file), knobs=knobs)


def loads(text: str, *, name: str = "scenario", file: str = "", knobs: Mapping[str, Any] | None = None) -> Scenario:
    """Read and check the text of a scenario. Raises ScenarioError with every problem in it."""
    return _Loader(text, name, file).load(knobs or {})


MISTAKES = 200  # most mistakes that are told
PARTS = 50  # most parts of a dotted key: tomllib takes hours for one of 100,000


def _endless_key(text: str) -> int | None:
    """The line of a dotted key that has more parts."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.count(".") < PARTS:
            continue
        bare = re.sub(r'"(?:[^"\\]|\\.)*"|\'[^\']*\'', "quoted", line)
        if any(sum(map(bool, piece.split("."))) > PARTS for piece in re.split(r"[^\w.\s-]", bare)):
            return number
    return None


class _Loader:
    def __init__(self, text: str, name: str, file: str) -> None:
        self.text, self.name, self.file = text, name, file
        self.problems: list[Problem] = []
        self.untold = 0  # how many mistakes are beyond those that are told
        self.warnings: list[Problem] = []
        self.raw: Mapping[str, Any] = {}  # the document before the knobs are filled in
        self.given: Mapping[str, Any] = {}  # the knobs whose value differs from their default

    @cached_property
    def lines(self) -> dict[Path, int]:
        return key_lines(self.text)

    def report(self, path: Path, problem: Problem) -> None:
        knob = self._blamed(path)
        if knob is None:
            self.problems.append(self._placed(path, problem))
            return
        value = self.given[knob]
        found = problem.found if problem.found != f"found {shown(value)}" else f"{show(path)} cannot have it"
        said = f"the knob {knob!r} is {shown(value)}: {found}"
        self._report_knob((), problem._replace(found=said))

    def _blamed(self, path: Path) -> str | None:
        """The given knob whose value stands at a path. Its problem names the knob, not a line of the file."""
        if not self.given:
            return None
        node: Any = self.raw
        for part in path:
            found = node if isinstance(node, (dict, list)) else {}
            inside = part in found if isinstance(found, dict) else isinstance(part, int) and part < len(found)
            if not inside:
                break
            node = node[part]
        names = {name.partition(".")[0] for name in knobs.live_names(node)} if isinstance(node, str) else set()
        return next((name for name in self.given if name in names), None)

    def warn(self, path: Path, problem: Problem) -> None:
        self.warnings.append(self._placed(path, problem)._replace(warning=True))

    def _placed(self, path: Path, problem: Problem) -> Problem:
        line = problem.line or (line_of(self.lines, path) if path else None)
        return problem._replace(key=problem.key or show(path), file=self.file or self.name, line=line)

    def _report_knob(self, path: Path, problem: Problem) -> None:
        """Report a problem of a given knob. It has no line in the file, so the report names the scenario."""
        if path:
            self.report(path, problem)
        else:
            self.problems.append(problem._replace(file=self.name))

    def stop_if_bad(self) -> None:
        if self.problems:
            found = sorted(self.problems, key=lambda p: p.line or 0)
            more = self.untold + max(0, len(found) - MISTAKES)
            rest = [Problem(f"there are {more} more mistakes", file=self.file or self.name)] if more else []
            raise ScenarioError([*found[:MISTAKES], *rest])

    def load(self, given: Mapping[str, Any]) -> Scenario:
        """Raises ScenarioError."""
        try:
            return self._load(given)
        except RecursionError:
            raise ScenarioError([Problem("nested too deeply", file=self.file or self.name)]) from None
        except knobs.TooLongError:
            found = f"the knobs make it longer than {knobs.FILLED:,} characters"
            raise ScenarioError([Problem(found, file=self.file or self.name)]) from None

    def _load(self, given: Mapping[str, Any]) -> Scenario:
        raw = self.raw = self._parse()
        defaults = raw.get("params", {})
        if not isinstance(defaults, dict):
            self.report(("params",), Problem(f"found {shown(defaults)}", allowed="a table"))
            defaults = {}
        settled = knobs.settle(defaults, given, self._report_knob)
        self._caps_of_zero(raw, given, settled)
        self.stop_if_bad()
        self.given = {name: value for name, value in settled.items() if value != defaults[name]}
        filler = knobs.Filler(settled, self.report, defaults, knobs.live_for(raw.get("protocol")))
        filled = {k: filler.fill(v, (k,)) for k, v in raw.items() if k != "params"}
        for unused in [k for k in defaults if k not in filler.used]:
            self.report(
                ("params", unused), Problem(f"nothing uses the knob {unused!r}", allowed=f"{{{unused}}} in a value")
            )
        document = self._validate({**filled, "params": settled})
        self._unused_faults(raw, document)
        phases = self._phases(document)
        Checks(document, phases, self.report, self.warn).run()
        self.stop_if_bad()
        Doubts(document, phases, raw, self.warn).run()
        return self._scenario(document, phases)

    def _caps_of_zero(self, raw: Mapping[str, Any], given: Mapping[str, Any], settled: Mapping[str, Any]) -> None:
        """Report a knob that was given as 0 and is the cap of an `over`: no client would ever get in.

        With `within`, 0 is allowed: it is a quota that is used up.
        """
        caps = (table["over"] for table in _tables_with(raw, "over") if "within" not in table)
        over = {value for value in caps if isinstance(value, str)}
        for name in given:
            if f"{{{name}}}" in over and settled.get(name) == 0:
                found = f"knob {name!r} is 0, so no client ever gets in"
                allowed = "1 or more; to refuse every client, play another scenario, such as one called `overload`"
                self._report_knob((), Problem(found, allowed=allowed))

    def _parse(self) -> dict[str, Any]:
        raw, error = {}, ""
        try:
            if line := _endless_key(self.text):
                error = f"a key has more than {PARTS} parts"
            else:
                raw = tomllib.loads(self.text)
        except RecursionError:
            error, line = "nested too deeply", None
        except tomllib.TOMLDecodeError as found:
            error, _, place = str(found).partition(" (at line ")
            line = int(place.split(",")[0]) if place else None
        except ValueError:  # from `int`, which takes no more than 4,300 digits
            error, line = "a number of more than 64 bits", None
        if error:
            self.report((), Problem(f"not valid TOML: {error[:1].lower()}{error[1:]}", line=line))
        for path in _endless_numbers(raw):
            self.report(path, Problem("found a number of more than 64 bits", allowed=f"{NUMBER} at most"))
        self.stop_if_bad()
        return raw

    def _validate(self, raw: dict[str, Any]) -> Document:
        try:
            document = tables.read(Document, raw)
        except tables.InvalidError as error:
            self.untold = max(0, len(error.mistakes) - MISTAKES)
            for mistake in error.mistakes[:MISTAKES]:
                self.report(*advice.problem(mistake, raw))
            self.stop_if_bad()
            raise
        self.stop_if_bad()
        return document

    def _unused_faults(self, raw: dict[str, Any], document: Document) -> None:
        """Faults that no rule names. With a knob as the name, any fault may be chosen."""
        said = [rule.get("fault", "") for phase in raw.get("phase", ()) for rule in phase.get("rule", ())]
        if any("{" in name for name in said):
            return
        for name in document.fault:
            if name not in said:
                self.report(
                    ("fault", name), Problem(f"nothing uses the fault {name!r}", allowed=f'fault = "{name}" in a rule')
                )

    def _phases(self, document: Document) -> tuple[Phase, ...]:
        phases = (
            Phase(
                name=phase.name or f"phase {i + 1}",
                rules=tuple(self._named(rule, document, ("phase", i, "rule", j)) for j, rule in enumerate(phase.rule)),
                lasts=phase.lasts,
                until=phase.until or {},
            )
            for i, phase in enumerate(document.phase)
        )
        return tuple(phases) or (Phase("healthy"),)

    def _scenario(self, document: Document, phases: tuple[Phase, ...]) -> Scenario:
        return Scenario(
            name=self.name,
            protocol=document.protocol,
            phases=tuple(_typed(document.protocol, phase) for phase in phases),
            summary=document.summary,
            sources=tuple(document.sources),
            repeat=document.repeat,
            knobs=document.params,
            server=document.server,
            certificates=document.certificate,
            expect=document.expect,
            faults=tuple(document.fault),
            text=self.text,
            file=self.file,
            warnings=tuple(sorted(self.warnings, key=lambda p: p.line or 0)),
            reload=partial(loads, self.text, name=self.name, file=self.file),
        )

    def _named(self, rule: Rule, document: Document, path: Path) -> Rule:
        """The rule with the keys of the fault that it names. Its own keys win, and its headers join the fault's."""
        if rule.fault is None:
            return rule
        if rule.fault not in document.fault:
            self.report((*path, "fault"), unknown("fault", rule.fault, document.fault))
            return rule
        fault = document.fault[rule.fault]
        own = {k: getattr(fault, k) for k in FAULT_KEYS if getattr(rule, k) is None}
        if rule.headers and fault.headers:
            names = {name for name, _ in rule.headers}
            own["headers"] = (*(one for one in fault.headers if one[0] not in names), *rule.headers)
        return tables.replace(rule, **own)


def _typed(protocol: str, phase: Phase) -> Phase:
    """The phase with the values in each `where` read as the types of their facts."""
    rules = (
        tables.replace(rule, where=facts.read_where(protocol, rule.on, rule.where)) if rule.where else rule
        for rule in phase.rules
    )
    return replace(phase, rules=tuple(rules))


def _endless_numbers(raw: object, path: Path = ()) -> Iterator[Path]:
    """Where the whole numbers stand that have more than 64 bits: Python writes none of some thousand digits."""
    if isinstance(raw, int) and abs(raw) > NUMBER:
        yield path
    inside = raw.items() if isinstance(raw, dict) else enumerate(raw) if isinstance(raw, list) else ()
    for key, one in inside:
        yield from _endless_numbers(one, (*path, key))


def _tables_with(raw: object, key: str) -> Iterator[Mapping[str, Any]]:
    """All tables of a document that have this key."""
    if isinstance(raw, dict) and key in raw:
        yield raw
    below = raw.values() if isinstance(raw, dict) else raw if isinstance(raw, list) else ()
    for one in below:
        yield from _tables_with(one, key)
