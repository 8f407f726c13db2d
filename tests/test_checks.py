"""What takes more than one field to see: what would do nothing, or fail later, is told at load; what is right loads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from notnow import protocols
from notnow.engine import events
from notnow.engine.engine import Engine
from notnow.errors import Problem, ScenarioError
from notnow.language.conditions import PER, SINCE
from notnow.language.faults import DATA_ENDINGS
from notnow.language.loading import loads
from notnow.units import SIZE_HELP
from playbook import document, phase, rule, toml

NO = "451 no"
PRELIMINARY = "a 1yz is said before the answer to a command"
CERTIFICATE = {"right": {}, "wrong": {"names": ["other.test"]}}


def problems(text: str) -> tuple[Problem, ...]:
    try:
        loads(text)
    except ScenarioError as error:
        return error.problems
    return ()


def told(*parts: dict[str, Any], **top: Any) -> list[str]:
    """Key path and finding of each problem."""
    return [f"{problem.key}: {problem.found}" for problem in problems(document(*parts, **top))]


class TestFaults:
    @pytest.mark.parametrize(
        ("made", "found"),
        [
            (rule("tls", reply=NO), "reply: 'reply' cannot be done at 'tls'"),
            (rule("enter", stall=True), "stall: 'stall' cannot be done at 'enter'"),
            (rule("body", keep=True, reply=NO), "keep: 'keep' cannot be done at 'body'"),
            (rule(["mail", "body"], reply=NO, after_bytes=3), "after_bytes: 'after_bytes' cannot be done at 'mail'"),
            (rule("mail", alert="internal_error"), "alert: 'alert' cannot be done at 'mail'"),
            (rule("mail", stall=True, reply=NO), "stall: a stalled answer has no reply and no close"),
            (rule("mail", stall=True, close=True), "stall: a stalled answer has no reply and no close"),
            (rule("mail", keep=True), "keep: 'keep' goes with a reply or a close"),
            (rule("mail", keep=True, stall=True), "keep: a request without an answer has no effect to keep"),
            (rule("body", after_bytes=3), "after_bytes: nothing is done after these bytes"),
            (rule("body", after_bytes=3, delay="1s"), "after_bytes: nothing is done after these bytes"),
            (rule("mail", stall=True, delay="1s"), "delay: there is nothing to delay"),
            (rule("enter", delay="1s"), "delay: there is nothing to delay"),
            (rule("mail", stall=True, drip="1s"), "drip: the fake says nothing that could drip"),
            (rule("mail", close=True, drip="1s"), "drip: the fake says nothing that could drip"),
            (rule("error", drip="1s"), "drip: the fake says nothing that could drip"),
            (rule("body", drip="1s"), "drip: the fake says nothing that could drip"),
            (
                rule("tls", certificate="wrong", close=True),
                "certificate: a handshake that is refused shows no certificate",
            ),
            (rule("tls", certificate="worng"), "certificate: there is no certificate 'worng'"),
        ],
    )
    def test_what_leaves_nothing_to_do(self, made: dict[str, Any], found: str) -> None:
        assert told(made, certificate=CERTIFICATE) == [f"phase[0].rule[0].{found}"]

    @pytest.mark.parametrize(
        "made",
        [
            rule("mail"),
            rule("enter"),
            rule("mail", close=False),
            rule("mail", delay="1s"),
            rule("mail", drip="1s"),
            rule("mail", reply=NO, delay="0s", drip="0s"),
            rule("body", delay="1s"),
            rule("body", stall=True, after_bytes=3),
            rule("enter", delay="1s", close=True),
            rule("message", close=True, keep=True),
            rule("tls", certificate="wrong"),
            rule("tls", alert="unrecognized_name", close=True),
            rule(["connect", "any", "body", "message", "enter"], reply=NO),
        ],
    )
    def test_what_has_something_to_do(self, made: dict[str, Any]) -> None:
        assert told(made, certificate=CERTIFICATE) == []

    def test_a_key_of_a_named_fault_is_found_where_it_stands(self) -> None:
        fault = {"x": {"reply": NO, "drip": "1s"}}
        assert told(rule("tls", fault="x"), fault=fault) == [
            "fault.x.reply: 'reply' cannot be done at 'tls'",
            "fault.x.drip: 'drip' cannot be done at 'tls'",
        ]
        own = told(rule("tls", fault="x", reply="450 own"), fault={"x": {"reply": NO}})
        assert own == ["phase[0].rule[0].reply: 'reply' cannot be done at 'tls'"]


class TestFaultsOfHTTP:
    @pytest.mark.parametrize(
        ("made", "found"),
        [
            (rule("request", stall=True, status=503), "stall: a stalled answer has no reply and no close"),
            (rule("request", stall=True, body="x"), "stall: a stalled answer has no reply and no close"),
            (rule("request", stall=True, reset_stream="CANCEL"), "stall: a stalled answer has no reply and no close"),
            (rule("request", keep=True, headers={"a": "b"}), "keep: 'keep' goes with a status or a close"),
            (rule("request", after_bytes=3, headers={"a": "b"}), "after_bytes: nothing is done after these bytes"),
            (rule("response", after_bytes=3, body="x"), "after_bytes: nothing is done after these bytes"),
            (
                rule("response", after_bytes=3, status=421),
                "status: the head of the answer has left before these bytes",
            ),
            (rule("response", drip="1s", close=True), "drip: the fake says nothing that could drip"),
            (rule("response", drip="1s", reset_stream="CANCEL"), "drip: the fake says nothing that could drip"),
        ],
    )
    def test_what_leaves_nothing_to_do(self, made: dict[str, Any], found: str) -> None:
        assert told(made, protocol="http") == [f"phase[0].rule[0].{found}"]

    @pytest.mark.parametrize(
        "made",
        [
            rule("request", after_bytes=3, status=421),
            rule("request", after_bytes=3, goaway=True),
            rule("response", after_bytes=3, reset_stream="CANCEL"),
            rule("request", keep=True, status=503),
            rule("request", keep=True, reset_stream="CANCEL"),
            rule("request", keep=True, goaway={"last": "previous"}),
            rule("response", drip="1s", status=503, body="x", close=True),
            rule("enter", delay="1s", goaway=True),
            rule("enter", delay="1s", reset_stream="CANCEL"),
            rule("idle", after="5m", delay="1s", altsvc="clear"),
            rule("request", where={"misdirected": True}, status=421),
            rule("request", where={"misdirected": ["sni", "none"]}, status=421),
        ],
    )
    def test_what_has_something_to_do(self, made: dict[str, Any]) -> None:
        assert told(made, protocol="http") == []

    def test_what_a_request_can_be_misdirected_by(self) -> None:
        (problem,) = problems(document(rule("request", where={"misdirected": 5}, status=421), protocol="http"))
        assert (problem.key, problem.found) == ("phase[0].rule[0].where.misdirected", "found 5")
        assert problem.allowed.startswith('"sni", "certificate", true')

    @pytest.mark.parametrize(
        ("key", "value"),
        [("headers", {"retry-after": "{left.seconds}"}), ("body", "{left.seconds}"), ("altsvc", "{left.seconds}")],
    )
    def test_placeholders_are_looked_at_wherever_something_is_said(self, key: str, value: object) -> None:
        made = rule("request", **{key: value})
        found = f"phase[0].rule[0].{key}: {{left.seconds}}: this phase ends at no fixed time"
        assert told(phase(made, lasts="10s"), phase(), protocol="http") == []
        assert told(made, protocol="http") == [found]


class TestPlaceholders:
    LEFT = rule("connect", reply="421 {left.seconds} {left.date}")

    def test_left_needs_a_phase_that_lasts(self) -> None:
        assert told(phase(self.LEFT, lasts="10s"), phase()) == []
        assert told(phase(self.LEFT, until={"connect": 3}, lasts="10s"), phase()) == []
        for bad in ([phase(self.LEFT)], [phase(self.LEFT, until={"connect": 3}), phase()], [phase(self.LEFT), phase()]):
            assert told(*bad) == [
                f"phase[0].rule[0].reply: {{{name}}}: this phase ends at no fixed time"
                for name in ("left.date", "left.seconds")
            ]

    def test_left_in_a_named_fault(self) -> None:
        found = told(rule("connect", fault="x"), fault={"x": {"reply": "421 {left.seconds}"}})
        assert found == ["fault.x.reply: {left.seconds}: this phase ends at no fixed time"]

    def test_wait_needs_one_condition_that_has_a_quota(self) -> None:
        window = {"over": 1, "within": "5m", "times": 3}
        assert told(rule("connect", reply="421 {wait.seconds}", **window)) == []
        assert len(told(rule("connect", reply="421 {wait.seconds}", nth=2))) == 1

    def test_an_escaped_one_is_none(self) -> None:
        assert told(rule("connect", reply="421 {{left.seconds}} {{limit}}")) == []

    @pytest.mark.parametrize("number", [{"over": 1}, {"after": 1}, {"first": "5m"}, {"nth": 2}])
    def test_limit_needs_a_number(self, number: dict[str, Any]) -> None:
        assert told(rule("connect", reply="421 {limit}", **number)) == []
        assert told(rule("connect", reply="421 {limit}")) == [
            "phase[0].rule[0].reply: {limit}: this rule has no number"
        ]


class TestWhere:
    @pytest.mark.parametrize(
        ("on", "where", "found"),
        [
            ("mail", {"sendr": "*"}, "where.sendr: there is no fact 'sendr'"),
            ("mail", {"recipient": "*"}, "where.recipient: 'recipient' is not known at 'mail'"),
            (["rcpt", "mail"], {"recipient": "*"}, "where.recipient: 'recipient' is not known at 'mail'"),
            ("connect", {"user": "ann"}, "where.user: 'user' is not known at 'connect'"),
            ("connect", {"tls": True}, "where.tls: 'tls' is not known at 'connect'"),
            ("enter", {"command": "MAIL"}, "where.command: 'command' is not known at 'enter'"),
            ("any", {"header": {"a": "*"}}, "where.header: 'header' is not known at 'any'"),
            ("mail", {"tls": "yes"}, "where.tls: found 'yes'"),
            ("mail", {"tls": 1}, "where.tls: found 1"),
            ("mail", {"size": True}, "where.size: found true"),
            ("mail", {"sender": 5}, "where.sender: found 5"),
            ("mail", {"sender": True}, "where.sender: found true"),
            ("mail", {"sender": []}, "where.sender: found []"),
            ("mail", {"sender": ["a", 5]}, "where.sender: found 5"),
            ("mail", {"sender": {"x": "y"}}, "where.sender: found a table"),
            ("message", {"header": "x"}, "where.header: found 'x'"),
            ("message", {"header": {}}, "where.header: found a table"),
            ("message", {"header": {"subject": 5}}, "where.header.subject: found 5"),
        ],
    )
    def test_what_could_never_match(self, on: str, where: dict[str, Any], found: str) -> None:
        assert told(rule(on, where=where, reply=NO)) == [f"phase[0].rule[0].{found}"]

    @pytest.mark.parametrize(
        ("on", "where"),
        [
            ("connect", {"client": "10.*"}),
            ("mail", {"sender": ["a@*", "none"], "size": [5, ">=10", "none"], "tls": [True, False], "user": "none"}),
            ("any", {"command": "VRFY", "sender": "*", "recipient": "*", "size": 1}),
            ("error", {"command": "RCPT"}),
            ("idle", {"client": "10.*", "tls": True}),
            ("message", {"header": {"subject": "*", "x-none": "none"}, "recipient": "b@*"}),
        ],
    )
    def test_what_could(self, on: str, where: dict[str, Any]) -> None:
        after = {"after": "5m"} if on == "idle" else {}
        assert told(rule(on, where=where, reply=NO, **after)) == []


class TestConditions:
    @pytest.mark.parametrize(
        ("made", "found"),
        [
            (rule("idle", reply=NO), ": 'idle' needs the length of the silence"),
            (rule("idle", after=3, reply=NO), ".after: 'idle' needs the length of the silence"),
            (rule(["idle", "mail"], after="3s", reply=NO), ".on: 'idle' stands alone"),
            (rule(["mail", "banana"], after="3s", reply=NO), ".on: there is no moment 'banana'"),
            (rule("idle", after="3s", over=1, reply=NO), ".over: 'over' counts nothing at 'idle'"),
            (rule("idle", after="3s", since="transfer", reply=NO), ".since: found 'transfer'"),
            (rule("mail", since="connect", reply=NO), ".since: 'since' goes with on = \"idle\""),
            (rule("mail", within="3s", reply=NO), ".within: 'within' goes with 'over'"),
            (
                rule(["mail", "rcpt"], over=1, reply=NO),
                ".on: 'over' counts what is in progress at 'mail', and connections at 'rcpt'",
            ),
            (
                rule("connect", over=1, per=["client", "connection"], reply=NO),
                ".per: 'over' counts connections here, and a connection counts as one",
            ),
            (rule("mail", nth=3, first=2, reply=NO), ".nth: this rule never acts: only the 3rd, and only the first 2"),
            (rule("mail", nth=3, after=3, reply=NO), ".nth: this rule never acts: only the 3rd, and after the first 3"),
            (rule("mail", nth=3, every=2, reply=NO), ".nth: this rule never acts: only the 3rd, and every 2nd"),
            (rule("mail", every=3, first=2, reply=NO), ".every: this rule never acts: every 3rd, and only the first 2"),
            (
                rule("mail", first=3, after=3, reply=NO),
                ".first: this rule never acts: only the first 3, and after the first 3",
            ),
            (
                rule("mail", first=1, after="5m", reply=NO),
                ".first: this rule never acts: only the first, and from 5m after the first one",
            ),
            (
                rule("mail", first="5m", after="5m", reply=NO),
                ".first: this rule never acts: for 5m from the first one, and from 5m after the first one",
            ),
            (
                rule("connect", per="connection", nth=2, reply=NO),
                ".nth: a connection has 1 connect, so this rule never acts",
            ),
            (
                rule(["connect", "tls"], per="connection", nth=3, close=True),
                ".nth: a connection has 2 connect and tls, so this rule never acts",
            ),
            (rule("mail", per="recipient", nth=1, reply=NO), ".per: 'recipient' is not known at 'mail'"),
            (rule("connect", per="user", nth=1, reply=NO), ".per: 'user' is not known at 'connect'"),
            (rule(["rcpt", "connect"], per="sender", nth=1, reply=NO), ".per: 'sender' is not known at 'connect'"),
        ],
    )
    def test_what_could_never_hold(self, made: dict[str, Any], found: str) -> None:
        assert told(made) == [f"phase[0].rule[0]{found}"]

    @pytest.mark.parametrize(
        "made",
        [
            rule("idle", after="3s", nth=2, times=1, since="connect", reply=NO),
            rule("mail", nth=4, every=2, after=3, first=4, reply=NO),
            rule("mail", first=4, after=3, reply=NO),
            rule("mail", first="5m", after=3, reply=NO),
            rule("mail", first="6m", after="5m", reply=NO),
            rule("mail", first=2, after="5m", reply=NO),
            rule("mail", every=3, first=3, reply=NO),
            rule("mail", nth=4, after="5m", reply=NO),
            rule("connect", over=0, per="connection", reply=NO),
            rule("connect", per="connection", nth=1, reply=NO),
            rule(["connect", "tls"], per="connection", nth=2, close=True),
            rule("mail", over=1, within="1h", per="connection", reply=NO),
            rule(["mail", "rcpt"], over=1, within="1h", reply=NO),
            rule("any", per=["sender", "recipient", "host"], nth=1, reply=NO),
        ],
    )
    def test_what_could(self, made: dict[str, Any]) -> None:
        assert told(made) == []

    def test_the_conditions_that_can_stand_in_place_of_one_that_counts_nothing(self) -> None:
        (problem,) = problems(document(rule("idle", after="3s", over=1, reply=NO)))
        assert problem.allowed == "nth, every, first, after, busy, times, where, chance"


class TestPhases:
    def test_the_last_one_has_no_end(self) -> None:
        assert told(phase(), phase(lasts="3s")) == ["phase[1].lasts: the last phase never ends"]
        assert told(phase(until={"connect": 1})) == ["phase[0].until: the last phase never ends"]

    def test_unless_they_go_in_a_circle(self) -> None:
        assert told(phase(lasts="3s"), phase(until={"connect": 1}), repeat=True) == []

    @pytest.mark.parametrize("moment", ["enter", "idle", "conect"])
    def test_until_needs_a_moment_of_a_client(self, moment: str) -> None:
        assert told(phase(until={moment: 1}), phase()) == [f"phase[0].until.{moment}: there is no moment {moment!r}"]

    @pytest.mark.parametrize("moment", ["connect", "tls", "any", "error", "body", "message", "quit"])
    def test_and_takes_any(self, moment: str) -> None:
        assert told(phase(until={moment: 1}), phase()) == []


class TestFTP:
    """What only FTP has: data connections, files, places in a transfer."""

    @pytest.mark.parametrize(
        ("made", "found"),
        [
            (rule("noop", data="fin"), "data: 'data' cannot be done at 'noop'"),
            (rule("connect", data="fin"), "data: 'data' cannot be done at 'connect'"),
            (rule("port", data="fin"), "data: 'data' cannot be done at 'port'"),
            (rule("pasv", after_bytes=3, reply=NO), "after_bytes: 'after_bytes' cannot be done at 'pasv'"),
            (rule(["retr", "noop"], after_bytes=3, reply=NO), "after_bytes: 'after_bytes' cannot be done at 'noop'"),
            (rule("retr", after_bytes=3), "after_bytes: nothing is done after these bytes"),
            (rule("retr", after_bytes=3, delay="1s"), "after_bytes: nothing is done after these bytes"),
            (rule("retr", data="fin", stall=True), "data: nothing ends the transfer"),
            (rule("retr", data="drop"), "data: no data connection can end so here"),
            (rule("transfer", data="drop", reply=NO), "data: no data connection can end so here"),
            (rule("enter", data="fin"), "data: nothing ends the transfer"),
            (rule("idle", data="fin", after="5m"), "data: nothing ends the transfer"),
            (rule("enter", data="drop", reply=NO), "data: no data connection can end so here"),
            (rule("pasv", data="fin", reply=NO), "data: the reply announces no data connection that could end"),
            (rule("epsv", data="drop", reply=NO), "data: the reply announces no data connection that could end"),
            (rule("pasv", data="fin", close=True), "data: the reply announces no data connection that could end"),
            (rule("pasv", data="fin", reply="227 x", keep=False), "data: the reply announces no data connection that could end"),
            (rule("stor", data="fin", reply=NO, keep=True), "data: a transfer that ends at once leaves nothing to keep"),
            (rule("retr", keep=True, data="fin", after_bytes=3), "keep: 'keep' goes with a reply or a close"),
            (rule("enter", keep=True, reply=NO), "keep: 'keep' cannot be done at 'enter'"),
            (rule("login", after_bytes=1, reply=NO), "after_bytes: 'after_bytes' cannot be done at 'login'"),
            (rule("stor", reply="150 Go"), f"reply: found '150 Go': {PRELIMINARY}"),
            (rule("transfer", reply="150 Go"), f"reply: found '150 Go': {PRELIMINARY}"),
            (rule("retr", reply="120 Wait", after_bytes=3), f"reply: found '120 Wait': {PRELIMINARY}"),
            (rule("idle", reply="120 Wait", after="5m"), f"reply: found '120 Wait': {PRELIMINARY}"),
        ],
    )  # fmt: skip
    def test_faults_that_have_nothing_to_do(self, made: dict[str, Any], found: str) -> None:
        assert told(made, protocol="ftp") == [f"phase[0].rule[0].{found}"]

    @pytest.mark.parametrize(
        "made",
        [
            *(rule("transfer", data=how) for how in ("fin", "reset", "drain")),
            *(rule(["pasv", "epsv"], data=how) for how in ("fin", "reset", "drain", "drop")),
            rule("pasv", data="drop", reply="227 Entering Passive Mode (1,2,3,4,{p1},{p2})."),
            rule("epsv", data="reset", reply=NO, keep=True),
            rule("retr", after_bytes=1, data="reset"),
            rule("stor", after_bytes=1, data="drain", reply=NO, keep=False),
            rule("stor", after_bytes=1, data="drain", reply=NO, keep=True),
            rule("list", after_bytes=1, stall=True),
            rule("stor", reply=NO, keep=True),
            rule("enter", data="reset", reply=NO),
            rule("idle", data="drain", close=True, after="5m"),
            rule("error", data="fin", reply=NO),
            rule("retr", data="fin", close="reset"),
            rule("transfer", delay="1s"),
        ],
    )  # fmt: skip
    def test_faults_that_have(self, made: dict[str, Any]) -> None:
        assert told(made, protocol="ftp") == []

    @pytest.mark.parametrize("name", ["p1", "p2", "data.port"])
    def test_placeholders_of_a_port(self, name: str) -> None:
        assert told(rule(["pasv", "epsv"], reply=f"227 {{{name}}}"), protocol="ftp") == []
        for on in ("port", "retr", "connect", "enter"):
            found = told(rule(on, reply=f"227 {{{name}}}"), protocol="ftp")
            assert found == [f"phase[0].rule[0].reply: {{{name}}} is not known at '{on}'"]
        found = f"phase[0].rule[0].reply: there is no placeholder {{{name}}}"
        assert told(rule("mail", reply=f"227 {{{name}}}")) == [found]

    def test_where_they_are_known_is_said(self) -> None:
        (problem,) = problems(document(rule("port", reply="227 {p1}"), protocol="ftp"))
        assert problem.allowed == "at pasv, epsv"

    @pytest.mark.parametrize("name", ["p1", "p2"])
    def test_a_knob_may_not_have_their_names(self, name: str) -> None:
        found = told(rule("connect", reply=f"421 {{{name}}}"), protocol="ftp", params={name: 1})
        assert f"params.{name}: a knob may not be called {name!r}" in found[0]

    @pytest.mark.parametrize(
        ("on", "where"),
        [
            ("retr", {"path": "/a/*", "mode": ["active", "none"], "command": "RETR", "user": "ann"}),
            ("transfer", {"path": "/a", "mode": "passive", "command": ["RETR", "STOR"]}),
            ("any", {"path": "/a", "mode": "passive", "command": "CWD"}),
            ("cwd", {"path": "/a"}),
            ("enter", {"command": "STOR", "mode": "active", "user": "ann"}),
            ("error", {"command": "PASS"}),
            ("login", {"user": "ann", "client": "10.*", "tls": True}),
        ],
    )
    def test_facts(self, on: str, where: dict[str, Any]) -> None:
        assert told(rule(on, where=where, reply=NO), protocol="ftp") == []

    @pytest.mark.parametrize(
        ("on", "fact"),
        [("pwd", "path"), ("pasv", "mode"), ("login", "command"), ("enter", "path"), ("connect", "user"), (["retr", "noop"], "path")],
    )  # fmt: skip
    def test_facts_that_are_not_known(self, on: Any, fact: str) -> None:
        at = on if isinstance(on, str) else on[-1]
        (found,) = told(rule(on, where={fact: "x"}, reply=NO), protocol="ftp")
        assert found == f"phase[0].rule[0].where.{fact}: {fact!r} is not known at {at!r}"

    @pytest.mark.parametrize("fact", ["sender", "recipient", "header", "size"])
    def test_facts_of_smtp_are_none(self, fact: str) -> None:
        (found,) = told(rule("retr", where={fact: "x"}, reply=NO), protocol="ftp")
        assert found == f"phase[0].rule[0].where.{fact}: there is no fact {fact!r}"

    def test_over_counts_transfers_or_connections(self) -> None:
        for on in ("transfer", "retr", ["stor", "appe"], ["transfer", "retr"]):
            assert told(rule(on, over=1, reply=NO), protocol="ftp") == []
            assert told(rule(on, over=1, per="connection", reply=NO), protocol="ftp") == []
        assert told(rule(["retr", "cwd"], over=1, reply=NO), protocol="ftp") == [
            "phase[0].rule[0].on: 'over' counts what is in progress at 'retr', and connections at 'cwd'"
        ]

    def test_since_transfer(self) -> None:
        idle = rule("idle", after="5m", since="transfer", reply=NO)
        assert told(idle, protocol="ftp") == []
        assert told(idle) == ["phase[0].rule[0].since: found 'transfer'"]

    def test_until_takes_any_moment_of_a_client(self) -> None:
        for moment in ("transfer", "retr", "login", "pasv", "any", "error", "tls"):
            assert told(phase(until={moment: 1}), phase(), protocol="ftp") == []
        assert told(phase(until={"idle": 1}), phase(), protocol="ftp") == [
            "phase[0].until.idle: there is no moment 'idle'"
        ]

    @pytest.mark.parametrize(
        ("top", "found"),
        [
            ({"server": {"files": {"a": "x"}}}, "server.files: 'files' is for FTP servers"),
            ({"server": {"quota": "1MB"}}, "server.quota: 'quota' is for FTP servers"),
            ({"expect": {"no_partial_files": True}}, "expect.no_partial_files: 'no_partial_files' is for FTP servers"),
        ],
    )
    def test_keys_that_only_ftp_has(self, top: dict[str, Any], found: str) -> None:
        assert told(rule("connect"), **top) == [found]
        assert told(rule("connect"), protocol="ftp", **top) == []

    @pytest.mark.parametrize("size", ["1MB", 5, 0, "0B", "1.5GB", "{room}"])
    def test_sizes(self, size: Any) -> None:
        assert told(rule("connect"), protocol="ftp", params={"room": "1MB"}, server={"quota": size})[1:] == []

    @pytest.mark.parametrize("size", ["1", "MB", "1TB", "-1MB", "1 MB", -1, 1.5, True, "1mb"])
    def test_what_is_no_size(self, size: Any) -> None:
        (problem,) = problems(document(rule("connect"), protocol="ftp", server={"quota": size}))
        assert (problem.key, problem.allowed) == ("server.quota", SIZE_HELP)

    @pytest.mark.parametrize("how", ["rst", "close", True, 5])
    def test_what_is_no_end_of_a_data_connection(self, how: Any) -> None:
        (problem,) = problems(document(rule("retr", data=how), protocol="ftp"))
        assert problem.key == "phase[0].rule[0].data"
        assert problem.allowed == "fin, reset, drain, open, ragged"


# ---- whatever loads, plays ---------------------------------------------------------------------

COMMANDS = {
    protocol: [name for name, moment in protocols.get(protocol).moments.items() if "any" in moment.within] + ["unknown"]
    for protocol in protocols.NAMES
}
DURATION = st.sampled_from(["5s", "30s", "10m", "36500d"])
REPLY = st.sampled_from(
    ["421 {host} no", "451 {client} {port}", "250 ok", "421 {left.seconds} {left.date}", ["250 ok", "421 {{bye}}"]]
)
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "reply": REPLY,
    "close": st.sampled_from([True, False, "reset", "abrupt"]),
    "stall": st.booleans(),
    "delay": DURATION,
    "drip": DURATION,
    "keep": st.booleans(),
    "after_bytes": st.integers(1, 9),
    "data": st.sampled_from(DATA_ENDINGS),
    "status": st.sampled_from([200, 304, 421, 503]),
    "headers": st.sampled_from([{}, {"retry-after": "{left.seconds}"}, {"via": ["a", "b"]}]),
    "body": st.sampled_from(["", "not now, {client}"]),
    "reset_stream": st.sampled_from(["REFUSED_STREAM", "CANCEL"]),
    "goaway": st.sampled_from([True, "ENHANCE_YOUR_CALM", {"last": "previous"}, {"last": 5}]),
    "altsvc": st.just('h2="{host}:{port}"'),
    "origin": st.just(["https://a.test"]),
    "certificate": st.just("right"),
    "alert": st.just("internal_error"),
    "per": st.sampled_from(PER),
    "nth": st.integers(1, 3),
    "every": st.integers(1, 3),
    "first": st.one_of(st.integers(1, 3), DURATION),
    "after": st.one_of(st.integers(1, 3), DURATION),
    "over": st.integers(0, 2),
    "within": DURATION,
    "times": st.integers(1, 3),
    "chance": st.sampled_from(["0%", "50%", "100%"]),
    "since": st.sampled_from(SINCE),
}
OF_HTTP = {"status", "headers", "body", "reset_stream", "goaway", "altsvc", "origin"}
NOT = {"http": {"reply", "data"}, "ftp": OF_HTTP, "smtp": OF_HTTP | {"data"}}
JUNK = st.sampled_from(
    [
        0,
        1,
        -1,
        1.5,
        True,
        "",
        "x",
        "{",
        "}",
        "{a}",
        "5m",
        "0s",
        "99999999d",
        "200%",
        "421-x",
        [],
        [1, "x"],
        {},
        {"x": {}},
    ]
)


WANTED = {
    "client": "10.*", "sni": "*.test", "user": "a*", "command": "[A-Z]*", "sender": "a@*", "recipient": "b@*",
    "size": ">=5", "path": "/a*", "mode": "passive", "method": "GET", "authority": "a.test", "query": "x=*",
    "misdirected": "sni", "resumed": False,
}  # fmt: skip


@st.composite
def rules(draw: st.DrawFn, protocol: str) -> dict[str, Any]:
    """A rule that has a fair chance to hold."""
    on = draw(st.lists(st.sampled_from(list(protocols.get(protocol).moments)), min_size=1, max_size=2, unique=True))
    keys = sorted(KEYS.keys() - (NOT[protocol] if draw(st.integers(0, 9)) else set()))  # else one of another protocol's
    made = {key: draw(KEYS[key]) for key in draw(st.lists(st.sampled_from(keys), max_size=3, unique=True))}
    known = sorted(
        frozenset.intersection(*(protocols.get(protocol).facts_at(moment) for moment in on)) - {"tls", "header"}
    )
    if known and draw(st.booleans()):
        fact = draw(st.sampled_from(known))
        made["where"] = {fact: draw(st.sampled_from(["*", WANTED[fact], "none", [WANTED[fact], "none"]]))}
    return rule(on, **made)


def play(scenario_text: str, seed: int) -> None:
    """Feed a scenario what clients might do. Nothing may go wrong, and nothing be said after a close."""
    chance, closed, live, now = random.Random(seed), set[str](), list[str](), 0.0
    engine = Engine(loads(scenario_text), seed=seed)
    for n in range(40):
        now += chance.choice([0.0, 0.0, 0.5, 3.0, 20.0, 700.0])
        for script in engine.feed(next(_happens(chance, live, n, engine.scenario.protocol)), now):
            assert script.steps
            assert script.conn not in closed or script.moment == "tls"
            if script.closes:
                closed.add(script.conn)
        assert engine.due is None or engine.due > now
    engine.next_phase(now)
    engine.play(engine.scenario, now)


def _happens(chance: random.Random, live: list[str], n: int, protocol: str) -> Iterator[events.Event]:
    if not live or chance.random() < 0.2:
        live.append(f"{n}")
        yield events.Opened(f"{n}", f"10.0.0.{n % 2}")
    conn = chance.choice(live)
    facts = {"sender": "a@x", "recipient": "b@x", "user": "ann", "command": "X", "path": "/a", "mode": "passive"}
    message = {**facts, "recipient": ("b@x", "c@x"), "header": {"subject": "x"}, "size": 5}
    yield chance.choice(
        [
            *(events.Asked(conn, command, facts) for command in COMMANDS[protocol]),
            *(events.Asked(conn, moment, message) for moment in ("data", "body", "message") if protocol == "smtp"),
            *(events.Asked(conn, "response", message, stream) for stream in (0, 1) if protocol == "http"),
            *(events.Ended(conn, name) for name, moment in protocols.get(protocol).moments.items() if moment.lasts),
            *(events.Leaving(conn), events.Heard(conn), events.Reached(conn), events.Known(conn, {"user": "bob"})),
            *(events.Answered(conn, 550, "RCPT"), events.Hello(conn, None), events.Tick(), events.Closed(conn)),
        ]
    )


@pytest.mark.parametrize("protocol", protocols.NAMES)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data(), repeat=st.booleans(), seed=st.integers(0, 2**31))
def test_what_loads_plays(protocol: str, data: st.DataObject, repeat: bool, seed: int) -> None:
    """Rules that do not hold are left out."""
    first = data.draw(st.lists(rules(protocol), max_size=3))
    second = data.draw(st.lists(rules(protocol), max_size=2))
    top = {"repeat": repeat, "certificate": CERTIFICATE, "protocol": protocol}

    def text(one: list[Any], two: list[Any]) -> str:
        return document(phase(*one, lasts="10m"), phase(*two, lasts="5s"), *([] if repeat else [phase()]), **top)

    def holds(made: Any) -> bool:
        return not problems(text([made], []))

    play(text([made for made in first if holds(made)], [made for made in second if holds(made)]), seed)


@pytest.mark.parametrize("protocol", protocols.NAMES)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_junk_in_any_place_is_a_scenario_error_or_loads(protocol: str, data: st.DataObject) -> None:
    made, on = data.draw(rules(protocol)), {"smtp": "mail", "ftp": "stor", "http": "request"}[protocol]
    own = {"ftp": {"files": {"a": "1KB"}, "quota": "1MB"}, "http": {"max_streams": 3}}.get(protocol, {})
    fault = (
        {"status": 503, "headers": {"a": "b"}, "goaway": {"code": "CANCEL"}} if protocol == "http" else {"reply": NO}
    )
    parts: dict[str, Any] = {
        "params": {"a": 3}, "server": {"tls": "none", **own}, "certificate": {"right": {}}, "fault": {"x": fault},
        "expect": {"delivered": {"times": 1}}, "sources": ["x"], "summary": "x", "repeat": True,
        "phase": [phase(made, rule(on, fault="x", nth="{a}"), lasts="5s", until={on: 2}, name="one")],
    }  # fmt: skip
    place: Any = parts
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from([*keys, "more"] if isinstance(place, dict) else keys))
        if key == "more" or data.draw(st.booleans()) or not isinstance(place[key], (dict, list)):
            place[key] = data.draw(JUNK)
            break
        place = place[key]
    body = "".join(f"{key} = {toml(value)}\n" for key, value in parts.items())
    assert all(problem.found for problem in problems(f'protocol = "{protocol}"\n{body}'))
