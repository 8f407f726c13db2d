"""Facts and their types: what `where` may ask for is what an adapter can say, and nothing else."""

from __future__ import annotations

import pytest

from notnow import protocols
from notnow.engine import matching
from notnow.errors import Problem, ScenarioError
from notnow.language.facts import read
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.protocols.fact import Comparison
from notnow.protocols.moment import CONNECTION_FACTS
from notnow.servers.ftp.session import ALIASES
from notnow.servers.smtp.session import SMTPSession
from playbook import document, rule

NO = "451 no"


def load(protocol: str, on: str | list[str], where: dict[str, object], **keys: object) -> Scenario:
    answer: dict[str, object] = {"status": 503} if protocol == "http" else {"reply": NO}
    return loads(document(rule(on, where=where, **(keys or answer)), protocol=protocol, server={"tls": "implicit"}))


def problem(protocol: str, on: str | list[str], where: dict[str, object]) -> Problem:
    with pytest.raises(ScenarioError) as caught:
        load(protocol, on, where)
    (found,) = caught.value.problems
    return found


class TestTheTable:
    @pytest.mark.parametrize("protocol", protocols.NAMES)
    def test_has_every_fact_that_a_moment_names_and_no_other(self, protocol: str) -> None:
        named = CONNECTION_FACTS.union(*(moment.facts for moment in protocols.get(protocol).moments.values()))
        assert set(protocols.get(protocol).facts) == named

    def test_has_the_verbs_of_the_adapters(self) -> None:
        ftp = {
            verb: name
            for name, moment in protocols.get("ftp").moments.items()
            for verb in moment.verbs
            if name in ALIASES.values()
        }
        assert {verb: name for verb, name in ftp.items() if verb != name.upper()} == ALIASES
        smtp = protocols.get("smtp").by_verb()
        assert {f"smtp_{verb}" for verb in smtp} <= set(dir(SMTPSession)) | {"smtp_AUTH"}
        assert smtp["HELO"] == smtp["EHLO"] == "ehlo"


NEVER = [  # protocol, moment, fact, value, what is allowed, what was meant
    ("ftp", "retr", "mode", "pasive", '"active", "passive"', "passive"),
    ("ftp", "retr", "mode", "p", '"active", "passive"', None),
    ("ftp", "retr", "mode", ["active", "pasv"], '"active", "passive"', "passive"),
    ("ftp", "retr", "path", "in/*.csv", "an absolute path", "/in/*.csv"),
    ("ftp", "stor", "path", "/in/", "no '/' at its end", "/in"),
    ("ftp", "stor", "path", "/a//b", "no '//'", "/a/b"),
    ("ftp", "cwd", "path", "", "an absolute path", "/"),
    ("ftp", "stor", "command", "RETR", '"STOR"', None),
    ("ftp", "cwd", "command", "PWD", '"CWD", "XCWD"', "CWD"),
    ("ftp", "stor", "command", "none", "never absent", None),
    ("ftp", "idle", "command", "NOOP", '"RETR", "STOR"', None),
    ("smtp", "any", "command", "MAIL FROM:<a@b>", "without arguments", "MAIL"),
    ("smtp", "ehlo", "command", "lhlo", '"EHLO", "HELO"', "HELO"),
    ("smtp", "mail", "size", "10 apples", "a number of bytes", None),
    ("smtp", "mail", "size", "1*", ">=10MB", None),
    ("smtp", "mail", "size", "<0", "a number of bytes", None),
    ("smtp", "mail", "size", -5, "a number of bytes", None),
    ("smtp", "mail", "size", True, "a number of bytes", None),
    ("smtp", "mail", "sender", "<ann@a.test>", "without < and >", "ann@a.test"),
    ("smtp", "mail", "sender", "<>", '"" is the null sender', ""),
    ("smtp", "mail", "tls", "yes", "true, false", None),
    ("smtp", "connect", "client", "localhost", "an IP address", "127.0.0.1"),
    ("smtp", "connect", "client", "10.0.0.0/8", "a glob of one", None),
    ("smtp", "connect", "client", "*.test", "a glob of one", None),
    ("smtp", "connect", "client", "0:0:0:0:0:0:0:1", "an IP address", "::1"),
    ("smtp", "connect", "client", "none", "never absent", None),
    ("http", "request", "authority", "a.test:443", "without its port", "a.test"),
    ("http", "request", "authority", "*.test:443", "without its port", "*.test"),
    ("http", "request", "authority", "https://a.test/x", "without its port", "a.test"),
    ("http", "request", "authority", "[::1]", "without its port", "::1"),
    ("http", "request", "authority", "a.test.", "without its port", "a.test"),
    ("http", "request", "authority", "bücher.test", "in ASCII", None),
    ("http", "request", "sni", "a.test:443", "without its port", "a.test"),
    ("http", "request", "path", "api/*", "a path", "/api/*"),
    ("http", "request", "path", "https://a.test/api", "a path", "/api"),
    ("http", "request", "path", "/a#b", "after '#'", "/a"),
    ("http", "request", "misdirected", "foo", '"sni", "certificate", true', None),
    ("http", "request", "misdirected", False, '"sni", "certificate", true', None),
    ("http", "request", "method", "GET /", "without arguments", "GET"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "on", "fact", "value", "allowed", "meant"), NEVER)
def test_a_value_that_a_fact_never_has(
    protocol: str, on: str, fact: str, value: object, allowed: str, meant: str | None
) -> None:
    keys = {"after": "5m"} if on == "idle" else {}
    with pytest.raises(ScenarioError) as caught:
        loads(document(rule(on, where={fact: value}, **keys, **_fault(protocol)), protocol=protocol))
    (found,) = caught.value.problems
    assert found.key == f"phase[0].rule[0].where.{fact}"
    assert allowed in found.allowed
    assert found.nearest == meant


def _fault(protocol: str) -> dict[str, object]:
    return {"status": 503} if protocol == "http" else {"reply": NO}


CAN = [
    ("ftp", "retr", "mode", ["active", "none", "PASSIVE"]),
    ("ftp", "retr", "path", ["/in/*.csv", "*.csv", "/", "[/]a", "none"]),
    ("ftp", "any", "command", "RETR"),
    ("ftp", ["retr", "stor"], "command", "RETR"),
    ("ftp", "transfer", "command", "S*"),
    ("ftp", "cwd", "command", "xcwd"),
    ("smtp", "mail", "size", [5, "5", "10MB", ">=10MB", "<10", "> 10", "!=0", "none", "*"]),
    ("smtp", "mail", "sender", ["", "*@a.test", "ann@a.test", "none", "postmaster"]),
    ("smtp", "any", "command", ["VRFY", "X*"]),
    ("smtp", "connect", "client", ["127.0.0.1", "127.0.0.*", "::1", "2001:db8:*", "10.[0-9].*", "*"]),
    ("http", "request", "authority", ["a.test", "*.test", "::1", "127.0.0.1", ""]),
    ("http", "request", "path", ["/api/*", "*", "*.js", "[/]a", ""]),
    ("http", "request", "query", ["page=2*", "", "none", "*"]),
    ("http", "request", "misdirected", ["sni", "certificate", True, "none"]),
    ("http", "request", "method", ["GET", "P*"]),
]


@pytest.mark.parametrize(("protocol", "on", "fact", "value"), CAN)
def test_a_value_that_a_fact_can_have(protocol: str, on: str | list[str], fact: str, value: object) -> None:
    load(protocol, on, {fact: value})


@pytest.mark.parametrize(
    ("protocol", "name", "meant"),
    [
        ("http", "host", "authority"),
        ("http", "url", "path"),
        ("http", "verb", "command"),
        ("smtp", "from", "sender"),
        ("smtp", "rcpt", "recipient"),
        ("ftp", "file", "path"),
        ("ftp", "usr", "user"),
        ("smtp", "url", None),
    ],
)
def test_a_name_that_other_tools_have_for_a_fact(protocol: str, name: str, meant: str | None) -> None:
    on = {"http": "request", "smtp": "mail", "ftp": "retr"}[protocol]
    found = problem(protocol, on, {name: "x"})
    assert found.nearest == meant
    assert set(found.allowed.split(", ")) == set(protocols.get(protocol).facts)


@pytest.mark.parametrize(
    ("value", "holds", "not_so"),
    [
        (">10", [11, 20_000], [10, 5, None]),
        (">=10KB", [10_000, 20_000], [9_999, None]),
        ("<10", [9, 0], [10, None]),
        ("<=10", [10], [11]),
        ("=10", [10], [9]),
        ("!=0", [1], [0, None]),
        ("10MB", [10_000_000], [10]),
        ("10", [10], [100]),
        (10, [10], [100, None]),
        ("*", [0, 5], [None]),
        ("none", [None], [0]),
        ([">10", 5], [5, 11], [6]),
    ],
)
def test_a_size_is_compared(value: object, holds: list[int | None], not_so: list[int | None]) -> None:
    (made,) = load("smtp", "mail", {"size": value}).rules()
    ((_, test),) = matching.tests(made.where)
    assert [test(number) for number in holds] == [True] * len(holds)
    assert [test(number) for number in not_so] == [False] * len(not_so)


def test_a_comparison_is_read_once() -> None:
    assert read("smtp", "size", ["mail"], ">= 1.5KB") == Comparison(">=", 1500)


@pytest.mark.parametrize(
    ("on", "fact", "value", "hint"),
    [
        ("request", "path", "/api?x=1", 'query = "x=1"'),
        ("request", "path", "/caf\u00e9", "percent-encoded"),
        ("request", "query", "?page=2", "without the '?'"),
    ],
)
def test_what_is_legal_and_probably_not_meant_is_a_warning(on: str, fact: str, value: str, hint: str) -> None:
    (warning,) = load("http", on, {fact: value}).warnings
    assert (warning.warning, warning.key) == (True, f"phase[0].rule[0].where.{fact}")
    assert hint in str(warning)


def test_an_address_without_an_at_is_a_warning() -> None:
    (warning,) = load("smtp", "rcpt", {"recipient": "a.test"}).warnings
    assert '"*@a.test"' in str(warning)


@pytest.mark.parametrize("name", ["subject:", "a b", ""])
def test_a_header_field_has_a_name_that_it_can_have(name: str) -> None:
    found = problem("smtp", "message", {"header": {name: "*"}})
    assert found.found == f"found {name!r}"
