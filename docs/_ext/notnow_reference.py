"""A Sphinx extension that writes the reference pages from the code, so that they cannot fall behind it.

At the start of each build it fills `docs/generated/`: the keys of a scenario file from the records of `notnow.language.grammar`, the
moments and facts from `notnow.protocols`, a page for each entry of the catalogue from its TOML, and the help of each
command. A page whose text has not changed keeps its time stamp, so that only what changed is read again.
"""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from msgspec import Struct, structs

from notnow import protocols, units, words
from notnow.bounds import BOUNDS
from notnow.chaos.policies.values import REQUIRED, Parameter
from notnow.chaos.policies.words import WORDS
from notnow.cli import COMMANDS, group
from notnow.control.models import TIME
from notnow.http_words import status_line
from notnow.journal import End, Facts, Failure, Frame
from notnow.language import catalogue
from notnow.language.expect import Delivered, Exceeded, Retried
from notnow.language.faults import ALERTS, Fault
from notnow.language.grammar import TABLES, Rule
from notnow.language.scenario import Scenario
from notnow.language.tables import Table
from notnow.protocols.moment import CONNECTION_FACTS
from notnow.protocols.protocol import Protocol

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HEADERS = {
    "Document": "The document",
    "Server": "`[server]`",
    "Certificate": "`[certificate.NAME]`",
    "Fault": "`[fault.NAME]`, and the fault of a rule",
    "Phase": "`[[phase]]`",
    "Rule": "`[[phase.rule]]`",
    "Expect": "`[expect]`",
    "Delivered": "`delivered`",
    "Retried": "`retried`",
    "Exceeded": "`never_exceeded`",
}
ORDER = ("Document", "Server", "Certificate", "Phase", "Rule", "Fault", "Expect")
SAID = ("reply", "status", "headers", "body")  # the keys of a fault that are shown as the client gets them
HUGE = 10**9  # a number that is as good as none, for a bound
MANY = 12  # choices that a cell of a table can still hold
_EXAMPLES = {
    units.DURATION: 'a duration, `"30s"`',
    units.PERCENT: 'a percentage, `"20%"`',
    units.RATE: 'a rate, `"200/s"`',
}
_WORDS = {"string": "text", "integer": "a whole number", "boolean": "`true` or `false`", "object": "a table"}


# ---- Markdown ----------------------------------------------------------------------------------


def table(*header: str, rows: Iterator[tuple[str, ...]]) -> str:
    """A Markdown table; a bar in a cell is escaped."""
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines)


def code(value: object) -> str:
    return f"`{value}`"


def toml(value: object) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


# ---- the keys of a scenario file ---------------------------------------------------------------


def holds(schema: Mapping[str, Any]) -> str:
    """What a JSON Schema allows, in words."""
    if "anyOf" in schema:
        kinds = [s for s in schema["anyOf"] if s.get("type") != "null"]
        if any(s.get("pattern") == TIME for s in kinds):
            return 'seconds, or a duration, `"30s"`'
        if len(kinds) == 2 and kinds[1].get("items") == kinds[0]:
            return f"{holds(kinds[0])}, or a list of them"
        return " or ".join(dict.fromkeys(map(holds, kinds)))
    if len(schema.get("enum", ())) > MANY:
        return f"one of {len(schema['enum'])} names, below"
    if "enum" in schema:
        return ", ".join(code(toml(v)) for v in schema["enum"])
    if "$ref" in schema:
        return "a table"
    if schema.get("type") == "array":
        return "a list of tables" if "$ref" in schema["items"] else f"a list: {holds(schema['items'])}"
    if schema.get("type") in ("integer", "number"):
        return _number(schema)
    return _EXAMPLES.get(schema.get("pattern", ""), _WORDS.get(schema.get("type", ""), "any value"))


def _number(schema: Mapping[str, Any]) -> str:
    """A number with its bounds; those that nobody comes near are left out."""
    kind = "a whole number" if schema["type"] == "integer" else "a number"
    least, most = (schema.get(key, HUGE) for key in ("minimum", "maximum"))
    if abs(least) >= HUGE:
        return kind
    return f"{kind}, {least} or more" if most >= HUGE else f"{kind}, {least} to {most:,}"


def _keys(record: type[Table]) -> Iterator[tuple[str, ...]]:
    inherited = Fault.KEYS if record is Rule else {}
    for name, key in record.KEYS.items():
        if name not in inherited:
            default = "required" if key.default is None else _default(key.default())
            yield code(name), holds(key.kind.schema), default, key.about


def _default(value: object) -> str:
    return "" if value in (None, "", [], {}) or isinstance(value, Table) else code(toml(value))


def scenario_keys() -> str:
    """Every table of a scenario file with its keys."""
    parts, records = [], {record.__name__: record for record in TABLES}
    for name in ORDER:
        record = records[name]
        parts.append(f"(keys-{name.lower()})=\n### {HEADERS[name]}\n\n{record.__doc__}")
        if record is Rule:
            parts.append(
                "Its fault is either one with a name (`fault`) or any key of [a fault](#keys-fault) in the rule itself."
            )
        parts.append(table("key", "holds", "default", "meaning", rows=_keys(record)))
        if record is Fault:
            parts.append(f"The alerts: {', '.join(map(code, ALERTS))}.")
    for record in (Delivered, Retried, Exceeded):
        parts.append(f"#### {HEADERS[record.__name__]}\n\n{record.__doc__}")
        parts.append(table("key", "holds", "default", "meaning", rows=_keys(record)))
    return "\n\n".join(parts) + "\n"


def moments() -> str:
    """The moments of each protocol: when they come, what `where` may ask there, which faults they can have."""
    parts = [f"Known at every moment: {', '.join(map(code, sorted(CONNECTION_FACTS)))}."]
    for protocol in protocols.every():
        rows = (
            (code(name), m.doc, " ".join(map(code, sorted(m.facts))), " ".join(map(code, sorted(m.faults))))
            for name, m in protocol.moments.items()
        )
        parts += [f"### {protocol.name}", table("moment", "when", "`where` may ask too", "faults", rows=rows)]
    return "\n\n".join(parts) + "\n"


def bounds() -> str:
    """What a client can make grow: how far, and what comes beyond that."""
    rows = ((bound.protocol, bound.what, bound.text, bound.then) for bound in BOUNDS)
    return table("protocol", "what a client can make grow", "bound", "beyond it", rows=rows) + "\n"


def journal_values() -> str:
    """The values of an exchange as JSON Lines have them: a row for each type, with its keys."""
    kinds = (("facts", Facts), ("end", End), ("frames", Frame), ("failure", Failure))
    return table(
        "key",
        "value",
        "keys",
        rows=(
            (code(key), code(value.__name__), _json_keys(value)) for key, union in kinds for value in get_args(union)
        ),
    )


def _json_keys(value: type[Struct]) -> str:
    tag = value.__struct_config__
    kind = [f'`"{tag.tag_field}": "{tag.tag}"`'] if tag.tag_field else []
    return ", ".join([*kind, *(code(field.encode_name) for field in structs.fields(value))])


def policies() -> str:
    """The words of the text of a policy: their parameters with their defaults, and what they do, with its source."""
    rows = (
        (code(name), ", ".join(map(_parameter, word.parameters)), word.doc, " ".join((word.source or "").split()))
        for name, word in WORDS.items()
    )
    return table("word", "parameters", "what it adds", "formula and source", rows=rows) + "\n"


def _parameter(one: Parameter) -> str:
    if one.default is REQUIRED:
        return code(one.name)
    return code(
        f"{one.name}={'none' if one.default == math.inf else f'{one.default:g}' if one.default != 'none' else 'none'}"
    )


def facts() -> str:
    """The facts of each protocol: what each is, which values `where` may ask for, at which moments it is known."""
    parts = []
    for protocol in protocols.every():
        rows = (
            (code(name), fact.doc, _values(fact.allowed), _known_at(protocol, name))
            for name, fact in protocol.facts.items()
        )
        parts += [f"### {protocol.name}", table("fact", "what it is", "values", "known at", rows=rows)]
    return "\n\n".join(parts) + "\n"


def _values(allowed: str) -> str:
    return re.sub(r'"([^"]*)"', r'`"\1"`', allowed)


def _known_at(protocol: Protocol, name: str) -> str:
    moments = [moment for moment in protocol.moments if name in protocol.facts_at(moment)]
    missing = [moment for moment in protocol.moments if moment not in moments]
    if len(missing) <= 2:
        return "every moment" + (f" but {' and '.join(map(code, missing))}" if missing else "")
    commands = {moment for moment in moments if "any" in protocol.moments[moment].within}
    if len(commands) > MANY:
        return " ".join(["every command", *(code(m) for m in moments if m not in commands)])
    return " ".join(map(code, moments))


# ---- the catalogue -----------------------------------------------------------------------------


def fault_comments(text: str) -> dict[str, str]:
    """What the lines above each `[fault.NAME]` say of it."""
    found = re.finditer(r"((?:^#.*\n)+)\[fault\.([\w-]+)\]", text, re.MULTILINE)
    return {m[2]: " ".join(line.lstrip("# ") for line in m[1].splitlines()) for m in found}


def said(lines: Sequence[str], indent: str = "") -> str:
    """Reply lines as a block."""
    return "\n".join(indent + line for line in ("```text", *lines, "```"))


def _fault(name: str, fault: Mapping[str, Any], comment: str) -> str:
    lines = said(found) if (found := list(_lines(fault))) else ""
    rest = ", ".join(code(f"{k} = {toml(v)}") for k, v in fault.items() if k not in SAID)
    head = ": ".join(part for part in (f"**{name}**", comment, rest) if part)
    return "\n\n".join(part for part in (head, lines) if part)


def _lines(fault: Mapping[str, Any]) -> Iterator[str]:
    """What a fault says to the client, line by line."""
    reply = fault.get("reply", ())
    yield from [reply] if isinstance(reply, str) else reply
    if "status" in fault:
        yield status_line(fault["status"])
    yield from (f"{name}: {value}" for name, value in fault.get("headers", {}).items())
    if body := fault.get("body"):
        yield from ("", *body.splitlines())


def _phase(number: int, phase: words.PhaseWords) -> str:
    lines = [f"**{number}. {phase.name}**, {phase.ends}", ""]
    for rule in phase.rules:
        lines += [f"- {rule.when}: {rule.does}", ""]
        lines += [said(rule.lines, "  "), ""] if rule.lines else []
    return "\n".join(lines if phase.rules else [*lines, "- all is well"])


def entry(scenario: Scenario, file: str) -> str:
    """The page of one scenario of the catalogue, in the words of `notnow show`."""
    name, raw = scenario.name, tomllib.loads(scenario.text)
    parts = [f"# {name}", scenario.summary]
    parts.append(
        f"In pytest {code(f'@pytest.mark.notnow({toml(name)})')}, at a terminal {code(f'notnow serve {name}')}."
    )
    if knobs := words.knobs(scenario):
        rows = ((code(k.name), code(k.default), k.kind, k.comment) for k in knobs)
        parts += ["## Knobs", table("knob", "default", "type", "what it is", rows=rows)]
    parts.append("## What happens")
    parts += words.server(scenario)
    if scenario.knobs:
        parts.append("With every knob at its default:")
    parts += [_phase(i, phase) for i, phase in enumerate(words.phases(scenario), 1)]
    if raw.get("fault"):
        above = fault_comments(scenario.text)
        parts += ["## Faults to choose from", *(_fault(k, v, above.get(k, "")) for k, v in raw["fault"].items())]
    expected = words.expectations(scenario) or ["Nothing is asked of it."]
    parts += ["## What a good client does here", bullets(expected)]
    parts += ["## Sources", bullets(scenario.sources)]
    parts += ["## The file", f"```{{literalinclude}} {file}\n:language: toml\n```"]
    return "\n\n".join(parts) + "\n"


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def catalogue_index(names: list[str], summaries: Mapping[str, str]) -> str:
    rows = ((f"[{name}]({name})", summaries[name]) for name in names)
    toc = "\n".join(names)
    return (
        "# The catalogue\n\nEvery scenario that comes with notnow. `notnow list` prints the same list, "
        "`notnow show NAME` explains one.\n\n"
        f"{table('scenario', 'what happens', rows=rows)}\n\n```{{toctree}}\n:hidden:\n\n{toc}\n```\n"
    )


# ---- the command line --------------------------------------------------------------------------


def command_line() -> str:
    """The help of `notnow` and of each of its commands, as a terminal of 100 columns shows it."""
    parts = [_help(group, "notnow", None)]
    root = click.Context(group, info_name="notnow", terminal_width=100)
    for name in COMMANDS:
        command = group.get_command(root, name)
        assert command is not None, name
        parts.append(f"## notnow {name}\n\n{_help(command, name, root)}")
    return "\n\n".join(parts) + "\n"


def _help(command: click.Command, name: str, parent: click.Context | None) -> str:
    context = click.Context(
        command, info_name=name, parent=parent, terminal_width=100, help_option_names=["-h", "--help"]
    )
    return f"```text\n{command.get_help(context)}\n```"


# ---- docstrings --------------------------------------------------------------------------------


def docstring(*given: Any) -> None:
    """Our docstrings are plain text; make them the reStructuredText that autodoc expects.

    An indented passage is shown as it stands, and a name in backticks may have a letter right behind it.
    """
    lines: list[str] = given[-1]  # after app, what, name, object and options
    out: list[str] = []
    for line in lines:
        above = next((text for text in reversed(out) if text), "")
        if line.startswith("    ") and out and not out[-1] and above and not above.startswith((" ", "..", "::")):
            out += ["::", ""]
        out.append(re.sub(r"`([^`]+)`(?=\w)", r"`\1`\\ ", line))
    lines[:] = out


# ---- the control API ---------------------------------------------------------------------------


def control_calls() -> str:
    """Every call of the control API with its parameters and answers, from the OpenAPI document."""
    from notnow.control.app import document

    told, parts = document(), []
    for path, operations in told["paths"].items():
        for method, about in operations.items():
            parts.append(f"### {method.upper()} {path}\n\n{about['summary']}")
            if "description" in about:
                parts.append(about["description"])
            if rows := [*_parameters(about), *_fields(about, told["components"]["schemas"])]:
                parts.append(table("name", "in", "holds", "meaning", rows=iter(rows)))
            good = next(code for code in about["responses"] if code.startswith("2"))
            schema = about["responses"][good].get("content", {}).get("application/json", {}).get("schema", {})
            if "$ref" in schema:
                name = schema["$ref"].rpartition("/")[2]
                keys = ", ".join(map(code, told["components"]["schemas"][name]["properties"]))
                parts.append(f"It answers {good} with {keys}.")
            refusals = ", ".join(c for c in about["responses"] if c != good and c not in ("401", "403"))
            parts.append(f"Refusals: {refusals}.")
    return "\n\n".join(parts) + "\n"


def _parameters(operation: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for one in operation["parameters"]:
        yield code(one["name"]), one["in"], holds(one["schema"]), one.get("description", "")


def _fields(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if content is None:
        return
    schema = schemas[content["schema"]["$ref"].rpartition("/")[2]]
    for name, about in schema.get("properties", {}).items():
        yield code(name), "body", holds(about), about.get("description", "")


# ---- the build ---------------------------------------------------------------------------------


def pages() -> dict[str, str]:
    """The text of every generated page, by its path below `docs/generated/`."""
    found = {
        "scenario/keys.md": scenario_keys(),
        "scenario/moments.md": moments(),
        "scenario/facts.md": facts(),
        "command-line.md": command_line(),
        "limits.md": bounds(),
        "journal.md": journal_values(),
        "control.md": control_calls(),
        "policies.md": policies(),
    }
    names, summaries = catalogue.names(), {}
    for name in names:
        scenario = catalogue.scenario(name)
        summaries[name] = scenario.summary
        found[f"catalogue/{name}.md"] = entry(scenario, f"/../scenarios/{name}.toml")
    found["catalogue/index.md"] = catalogue_index(names, summaries)
    return found


def write(app: Sphinx) -> None:
    """Bring `docs/generated/` up to date: write what has changed, remove what is no more."""
    root = Path(app.srcdir) / "generated"
    wanted = {root / path: text for path, text in pages().items()}
    for old in [file for file in root.rglob("*.md") if file not in wanted]:
        old.unlink()
    for file, text in wanted.items():
        if not file.is_file() or file.read_text("utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
