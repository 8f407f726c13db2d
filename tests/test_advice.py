"""What an error offers: only what this protocol and this moment have, and the word that was meant."""

from __future__ import annotations

from typing import Any

import pytest

from notnow import FakeFTP, protocols
from notnow.errors import Problem, ScenarioError
from notnow.language.advice import ONLY, SYNONYMS
from notnow.language.conditions import PER, SINCE
from notnow.language.expect import SHAPES, Expect
from notnow.language.faults import DATA_ENDINGS, FAULT_KEYS
from notnow.language.grammar import TABLES
from notnow.language.loading import loads
from notnow.language.server import TLS_MODES, Server
from playbook import document, phase, rule

OF_A_MOMENT = {"smtp": "mail", "ftp": "retr", "http": "request"}


def problem(*parts: dict[str, Any], **top: Any) -> Problem:
    with pytest.raises(ScenarioError) as caught:
        loads(document(*parts, **top))
    return caught.value.problems[0]


def offered(found: Problem) -> set[str]:
    return set(found.allowed.split(", "))


MEANT = [  # protocol, a rule, what was meant
    ("smtp", rule("mail", code=421), "reply"),
    ("http", rule("request", code=421), "status"),
    ("smtp", rule("mail", message="421 x"), "reply"),
    ("smtp", rule("idle", timeout="5s", reply="421 x"), "after"),
    ("smtp", rule("mail", timeout="5s", reply="421 x"), "after"),
    ("http", rule("request", header={"a": "b"}), "headers"),
    ("smtp", rule("mail", when={"sender": "*"}, reply="421 x"), "where"),
    ("smtp", rule("mail", probability="5%", reply="421 x"), "chance"),
    ("smtp", rule("mail", disconnect=True), "close"),
    ("smtp", rule("mail", hang=True), "stall"),
    ("smtp", rule("mail", repply="421 x"), "reply"),
    ("smtp", rule("mail", status=421), "reply"),
    ("http", rule("request", reply="421 x"), "status"),
    ("ftp", rule("retr", data="rst"), "reset"),
    ("ftp", rule("retr", data="drain_"), "drain"),
    ("smtp", rule("mail", per="ip", nth=1, reply="421 x"), "client"),
    ("smtp", rule("helo", reply="421 x"), "ehlo"),
    ("ftp", rule("download", reply="421 x"), "retr"),
    ("http", rule("headers", status=421), "request"),
    ("smtp", rule("mail", close="rst"), "reset"),
]  # fmt: skip


@pytest.mark.parametrize(("protocol", "made", "meant"), MEANT)
def test_the_word_that_another_tool_has_for_it(protocol: str, made: dict[str, Any], meant: str) -> None:
    assert problem(made, protocol=protocol).nearest == meant


@pytest.mark.parametrize(
    ("protocol", "mode", "meant"),
    [
        ("ftp", "explicit", "starttls"), ("smtp", "explicit", "starttls"), ("http", "explicit", "implicit"), ("ftp", "ftps", "implicit"),
        ("http", "https", "implicit"), ("smtp", "off", "none"), ("smtp", "startls", "starttls"), ("http", "starttls", None),
    ],
)  # fmt: skip
def test_modes_of_tls(protocol: str, mode: str, meant: str | None) -> None:
    found = problem(phase(), protocol=protocol, server={"tls": mode})
    assert (offered(found), found.nearest) == (set(protocols.get(protocol).tls_modes), meant)


class TestOnlyWhatThereIs:
    @pytest.mark.parametrize("protocol", protocols.NAMES)
    def test_keys_of_a_rule_are_those_of_its_moment(self, protocol: str) -> None:
        for on, moment in protocols.get(protocol).moments.items():
            faults = offered(problem(rule(on, xyz=1), protocol=protocol)) & set(FAULT_KEYS)
            assert faults == moment.faults & set(FAULT_KEYS)

    @pytest.mark.parametrize("protocol", protocols.NAMES)
    def test_keys_of_a_fault_with_a_name_are_those_of_its_protocol(self, protocol: str) -> None:
        made = rule(OF_A_MOMENT[protocol], fault="x")
        faults = offered(problem(made, protocol=protocol, fault={"x": {"xyz": 1}}))
        assert faults == set().union(*(moment.faults for moment in protocols.get(protocol).moments.values())) & set(
            FAULT_KEYS
        )

    @pytest.mark.parametrize("table", ["server", "expect"])
    @pytest.mark.parametrize("protocol", protocols.NAMES)
    def test_keys_of_other_protocols_are_not_offered(self, protocol: str, table: str) -> None:
        keys = offered(problem(phase(), protocol=protocol, **{table: {"xyz": 1}}))
        model = {"server": Server, "expect": Expect}[table]
        assert keys == {key for key in model.KEYS if protocol in ONLY[table].get(key, (protocol,))}

    def test_a_rule_with_an_unknown_moment_may_have_the_keys_of_all(self) -> None:
        assert {"reply", "certificate", "since"} <= offered(problem(rule(["mail", "banana"], xyz=1)))

    def test_drop_is_offered_where_a_data_connection_is_announced(self) -> None:
        assert "drop" not in offered(problem(rule("retr", data="rst"), protocol="ftp"))
        assert "drop" in offered(problem(rule("pasv", data="rst"), protocol="ftp"))

    def test_what_may_be_counted_is_what_is_known(self) -> None:
        assert offered(problem(rule("connect", per="x", nth=1, reply="421 x"))) == {
            "server",
            "client",
            "connection",
            "host",
        }
        assert "recipient" in offered(problem(rule("rcpt", per="x", nth=1, reply="421 x")))

    @pytest.mark.parametrize("protocol", ["smtp", "http"])
    def test_no_message_names_the_answer_of_another_protocol(self, protocol: str) -> None:
        other = {"smtp": "status", "http": "reply"}[protocol]
        for keys in (
            {"keep": True},
            {"stall": True, "keep": True},
            {"stall": True, "delay": "1s"},
            {"stall": True, "drip": "1s"},
        ):
            assert other not in str(problem(rule(OF_A_MOMENT[protocol], **keys), protocol=protocol))

    @pytest.mark.parametrize(("protocol", "on"), [("ftp", "retr"), ("smtp", "body"), ("http", "request")])
    def test_what_may_stand_beside_after_bytes(self, protocol: str, on: str) -> None:
        found = problem(rule(on, after_bytes=5), protocol=protocol)
        words = set(found.allowed.removeprefix("beside it one of ").split(", "))
        assert words
        assert words <= protocols.get(protocol).moments[on].faults


def test_each_synonym_is_of_a_word_that_there_is() -> None:
    keys = {key for table in TABLES for key in table.KEYS}
    known = {
        "key": keys, "tls mode": set(TLS_MODES), "moment": {name for one in protocols.every() for name in one.moments},
        "data": set(DATA_ENDINGS), "close": {"reset", "abrupt", "true"}, "per": set(PER), "backoff": set(SHAPES), "since": set(SINCE),
        "protocol": set(protocols.NAMES),
    }  # fmt: skip
    assert {
        name: {word for words in table.values() for word in words} - known[name] for name, table in SYNONYMS.items()
    } == {name: set() for name in known}


class TestKnobs:
    HEAD = {"params": {"like": "a", "n": 2, "on": "mail"}, "fault": {"a": {"reply": "421 x"}, "b": {"reply": "421 y"}}}

    def told(self, **values: Any) -> str:
        text = document(rule("{on}", fault="{like}", nth="{n}"), **self.HEAD)
        with pytest.raises(ScenarioError) as caught:
            loads(text, name="smtp/x", file="/somewhere/x.toml", knobs=values)
        (found,) = caught.value.problems
        return str(found)

    def test_a_value_that_was_given_is_told_as_that_and_not_as_a_line_of_the_file(self) -> None:
        assert (
            self.told(like="aa")
            == "smtp/x: the knob 'like' is 'aa': there is no fault 'aa'; allowed: a, b; did you mean 'a'?"
        )
        assert self.told(n=0) == "smtp/x: the knob 'n' is 0: phase[0].rule[0].nth cannot have it; allowed: 1 or more"
        assert self.told(on="rctp").startswith(
            "smtp/x: the knob 'on' is 'rctp': there is no moment 'rctp'; allowed: connect, "
        )

    def test_a_default_is_a_line_of_the_file(self) -> None:
        text = document(rule("mail", nth="{n}", reply="421 x"), params={"n": 0})
        with pytest.raises(ScenarioError, match=r"^/somewhere/x.toml:\d+: phase\[0\]"):
            loads(text, name="smtp/x", file="/somewhere/x.toml")


def test_an_option_of_a_fake_knows_the_words_of_other_tools() -> None:
    with pytest.raises(ScenarioError, match=r"allowed: none, starttls, implicit; did you mean 'starttls'\?"):
        FakeFTP(tls="explicit")
