"""The servers that run as something to keep: a pytest test, a shell script for curl, a scenario file."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from notnow import protocols
from notnow.conduct.judging import UnknownRuleError, of_protocol, select
from notnow.control.calls import MEDIA_TYPES, Content, call
from notnow.control.fleet import Fleet, Member
from notnow.control.models import Short, WhichServers
from notnow.control.problems import RefusedError
from notnow.errors import ScenarioError
from notnow.language import catalogue
from notnow.language.scenario import Scenario
from notnow.language.toml_lines import key_lines
from notnow.look.rendering import render_text

KEPT = ("users", "files", "journal_limit")  # options of a server that are copied beside its TLS mode and its seed
Format = Literal["pytest", "curl", "toml"]


class CopyQuery(WhichServers):
    """What to copy, and as what."""

    format: Format = "pytest"
    rule: Short | None = Field(None, description="pytest: judge by this rule of conduct alone.")


@call("GET", "/v1/copy", errors=(404, 422), media=("text",))
def copy_servers(fleet: Fleet, query: CopyQuery, headers: Mapping[str, str]) -> Content:
    """The same servers to keep: as a pytest test, as a shell script that calls this API, or as a scenario file.

    Test and script run a client, whose command is in the environment variable CLIENT, and end with its verdict. The script takes the
    token, where this API asks for one, from NOTNOW_TOKEN.
    """
    members = _members(fleet, query.server)
    rule = _rule(members, query.rule)
    return Content(MEDIA_TYPES["text"], _FORMATS[query.format](members, rule, f"http://{headers.get('host', '')}"))


def _members(fleet: Fleet, names: Sequence[str]) -> Sequence[Member]:
    groups = list(fleet.groups(names).values())
    if not groups:
        raise RefusedError(404, "there is no server to copy; start one with POST /v1/servers")
    if len(groups) > 1:
        found = ", ".join(group[0].group for group in groups)
        raise RefusedError(422, f"these servers share no clock ({found}); allowed: server=NAME, servers of one group")
    return groups[0]


def _rule(members: Sequence[Member], id: str | None) -> str | None:
    if id is None or id.startswith("expect."):
        return None
    known = [rule for member in members for rule in of_protocol(member.fake.protocol)]
    try:
        return select([id], known)[0].id
    except UnknownRuleError as error:
        raise RefusedError(422, str(error)) from None


# ---- a pytest test ------------------------------------------------------------------------------


def _pytest(members: Sequence[Member], rule: str | None, _api: str) -> str:
    servers = [_Copied(member) for member in members]
    return render_text(
        "test.py.txt",
        servers=servers,
        judged=_judged(servers, rule),
        names=", ".join(member.fake.scenario.name for member in members),
        function=re.sub(r"\W+", "_", "_".join(member.fake.scenario.name for member in members)),
        client=_client(members[0], url="{url}", server="{host}:{port}", ca="{ca_file}"),
        rule=rule,
        falls_back=rule is not None and rule.endswith(".next-host") and len(members) > 1,
        python=_python,
    )


def _judged(servers: Sequence[_Copied], rule: str | None) -> Sequence[_Copied]:
    """The servers at which a client is judged: those that it has come to, and whose protocol the rule is about."""
    spoken = [one for one in servers if rule is None or rule.partition(".")[0] == one.protocol]
    return [one for one in spoken if one.fake.journal.connections] or spoken[:1]


def _python(value: object) -> str:
    """A value as Python writes it, texts in double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_python(key)}: {_python(one)}' for key, one in value.items())}}}"
    return f"[{', '.join(map(_python, value))}]" if isinstance(value, list) else repr(value)


class _Copied:
    """A server, as Python and JSON say it."""

    def __init__(self, member: Member) -> None:
        self.member, self.fake = member, member.fake
        self.name, self.protocol, self.scenario = self.fake.name, self.fake.protocol, self.fake.scenario
        self.knobs = _changed(self.scenario)
        self.seed = self.fake.seed
        self.tls = self.fake.tls if self.fake.tls != self.scenario.server.tls else None
        self.options = {key: member.options[key] for key in KEPT if _is_plain(member.options.get(key))}
        self.toml = None if _is_in_catalogue(self.scenario) else settled(self.scenario)

    @property
    def constant(self) -> str:
        """The name of a Python constant for the text of its scenario file."""
        return self.name.replace("-", "_").upper()

    @property
    def source(self) -> str:
        """The text of its scenario file, as Python writes it."""
        assert self.toml is not None
        raw = self.toml.isprintable() or all(line.isprintable() for line in self.toml.split("\n"))
        return f"r'''{self.toml}'''" if raw and "'''" not in self.toml and self.toml[-1:] == "\n" else repr(self.toml)

    def as_json(self, group: str | None) -> str:
        played: dict[str, Any] = {"toml": self.toml} if self.toml is not None else {"scenario": self.scenario.name}
        asked = {**played, "seed": self.seed, "ttl": "10m"}
        if self.toml is None and self.knobs:
            asked["knobs"] = self.knobs
        asked |= {key: value for key, value in (("tls", self.tls), ("group", group)) if value is not None}
        asked |= self.options
        if (speed := self.member.clock.speed) not in (0, 1):
            asked["speed"] = speed
        return json.dumps(asked)


def _is_plain(option: object) -> bool:
    """True for an option that a test or a request can hold; a directory, say, is none."""
    return isinstance(option, int) or (isinstance(option, dict) and all(isinstance(v, str) for v in option.values()))


def _is_in_catalogue(scenario: Scenario) -> bool:
    try:
        return catalogue.scenario(scenario.name).text == scenario.text
    except ScenarioError:
        return False


def _changed(scenario: Scenario) -> dict[str, Any]:
    """The knobs that are not at their defaults."""
    defaults = scenario.reload(knobs={}).knobs
    return {name: value for name, value in scenario.knobs.items() if value != defaults[name]}


def _client(member: Member, **places: str) -> str:
    """The command of a client that this machine has, if any, with these places for the address."""
    tls = member.fake.tls
    fitting = [sample for sample in protocols.get(member.fake.protocol).samples if tls in sample.tls]
    sample = next((one for one in fitting if shutil.which(one.program)), fitting[-1])
    return (sample.command + sample.tls[tls]).format(**places)


# ---- a script for curl, and a scenario file -----------------------------------------------------


def _curl(members: Sequence[Member], _rule: str | None, api: str) -> str:
    servers = [_Copied(member) for member in members]
    return render_text(
        "script.sh.txt",
        servers=servers,
        names=", ".join(server.scenario.name for server in servers),
        api=api,
        group=f"copy-of-{members[0].group}" if len(servers) > 1 else None,
        client=_client(members[0], url="$url", server="$host:$port", ca="$ca"),
    )


def _toml(members: Sequence[Member], _rule: str | None, _api: str) -> str:
    if len(members) > 1:
        names = ", ".join(member.fake.name for member in members)
        raise RefusedError(422, f"a scenario file is for one server; allowed: server=NAME, one of {names}")
    return settled(members[0].fake.scenario)


def settled(scenario: Scenario) -> str:
    """The text of a scenario with its knobs at the values that are playing as their defaults."""
    lines, where = scenario.text.split("\n"), key_lines(scenario.text)
    for name, value in _changed(scenario).items():
        number = where[("params", name)] - 1
        key, _, rest = lines[number].partition("=")
        comment = re.search(r"\s+#[^\"']*$", rest)
        lines[number] = f"{key.rstrip()} = {json.dumps(value, ensure_ascii=False)}{comment[0] if comment else ''}"
    return "\n".join(lines)


_FORMATS: Mapping[Format, Callable[[Sequence[Member], str | None, str], str]] = {
    "pytest": _pytest,
    "curl": _curl,
    "toml": _toml,
}
