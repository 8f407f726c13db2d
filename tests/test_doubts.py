"""What is legal in a scenario and can do nothing is a warning; what can do something is passed over in silence."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from notnow import FakeHTTP, FakeSMTP, scenario
from notnow.cli import group
from notnow.errors import ScenarioWarning
from notnow.language import catalogue
from notnow.language.loading import loads
from playbook import document, phase, rule

NO = "451 no"
DONE = phase()


def told(*parts: dict[str, Any], **top: Any) -> list[str]:
    """Key path and finding of each warning."""
    return [f"{warning.key}: {warning.found}" for warning in loads(document(*parts, **top)).warnings]


def ends(*rules: dict[str, Any], **keys: Any) -> list[dict[str, Any]]:
    return [phase(*rules, **keys), DONE]


IMPLICIT, STARTTLS = {"server": {"tls": "implicit"}}, {"server": {"tls": "starttls"}}
TWO = {"a": {"names": ["a.test", "b.test"]}, "b": {"names": "b.test"}}
WARNED: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    # phases; the rest of the document; where and what
    ([rule("tls", alert="internal_error")], {}, "phase[0].rule[0].on: the moment 'tls' never comes"),
    ([rule("starttls", reply=NO)], {}, "phase[0].rule[0].on: the moment 'starttls' never comes"),
    ([rule("starttls", reply=NO)], IMPLICIT, "phase[0].rule[0].on: the moment 'starttls' never comes"),
    ([rule("mail", where={"sni": "a.test"}, reply=NO)], {}, "where.sni: 'sni' is always absent"),
    ([rule("mail", where={"tls": True}, reply=NO)], {}, "where.tls: 'tls' is always false"),
    ([rule("mail", where={"tls": False}, reply=NO)], IMPLICIT, "where.tls: 'tls' is always true"),
    ([rule("request", where={"misdirected": "sni"}, status=421)], {"protocol": "http"}, "'misdirected' is always absent"),
    ([rule("mail", reply=NO)], {"certificate": TWO}, "certificate.a: no client is shown a certificate"),
    ([rule("mail", reply=NO)], {**IMPLICIT, "certificate": TWO}, "certificate.b: no client is shown the certificate 'b'"),
    (ends(until={"tls": 1}), {}, "phase[0].until.tls: the moment 'tls' never comes"),
    (ends(rule("mail", after="10m", reply=NO), lasts="1m"), {}, "after: this rule begins 10m after its first event"),
    (ends(rule("mail", after="1m", reply=NO), lasts="1m"), {}, "after: this rule begins 1m after its first event"),
    (ends(rule("mail", nth=4, reply=NO), until={"mail": 3}), {}, "nth: this rule waits for event 4"),
    (ends(rule("mail", after=3, reply=NO), until={"mail": 3}), {}, "after: this rule waits for event 4"),
    (ends(rule("rcpt", every=4, reply=NO), until={"any": 3}), {}, "every: this rule waits for event 4"),
    ([rule("mail", chance="0%", reply=NO)], {}, "chance: found '0%'"),
    ([rule("connect", reply=NO), rule("connect", reply=NO)], {}, "phase[0].rule[1]: this rule never acts: rule[0]"),
    ([rule("mail"), rule("mail", nth=2, reply=NO)], {}, "phase[0].rule[1]: this rule never acts: rule[0]"),
    ([rule("any", reply=NO), rule(["mail", "noop"], reply=NO)], {}, "phase[0].rule[1]: this rule never acts: rule[0]"),
    ([rule("mail", reply=NO), rule("rcpt", reply=NO), rule(["mail", "rcpt"], reply=NO)], {}, "rule[2]: this rule never acts: rule[0], rule[1]"),
    (
        [rule("mail", where={"sender": "a@*"}, reply=NO), rule("mail", where={"sender": "a@*", "size": ">5"}, reply=NO)],
        {}, "phase[0].rule[1]: this rule never acts",
    ),
    ([rule("mail", nth=2, reply=NO), rule("mail", nth=2, times=1, reply=NO)], {}, "rule[1]: this rule never acts"),
    ([rule("idle", after="5m", close=True), rule("idle", after="5m", reply=NO)], {}, "rule[1]: this rule never acts"),
    ([rule("retr", reply=NO)], {"protocol": "ftp", "server": {"files": {"a": "3 MB"}}}, "server.files.a: the text '3 MB'"),
    ([rule("retr", reply=NO)], {"protocol": "ftp", "server": {"files": {"a": "3mb"}}}, "server.files.a: the text '3mb'"),
    ([rule("retr", reply=NO)], {"protocol": "ftp", "server": {"files": {"a": "1.5 MiB"}}}, "looks like a size"),
    ([rule("mail", where={"user": "bob"}, reply=NO)], {"server": {"users": {"ann": "x"}}}, "no user of [server] is called 'bob'"),
    ([rule("mail", reply=NO)], {"expect": {"new_connection_after": 421}}, "expect.new_connection_after: no rule says 421"),
    ([rule("mail", reply=NO)], {"expect": {"delivered": {}, "gave_up": "5d"}}, "expect.gave_up: a client that gave up"),
    ([rule("mail", reply=NO)], {"expect": {"retried": {"within": "1m", "first_delay": "5m"}}}, "expect.retried.within: a client that waits 5m"),
    ([rule("mail", where={"sni": "127.0.0.1"}, reply=NO)], IMPLICIT, "where.sni: found '127.0.0.1'"),
    ([rule("mail", reply="451 " + "x" * 507)], {}, "reply: a reply line of 511 bytes"),
    ([rule("request", altsvc="banana")], {"protocol": "http"}, "altsvc: found 'banana'"),
    ([rule("request", status=204, body="x")], {"protocol": "http"}, "a response 204 has no content"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "near"), [("1.5 MiB", "1.5MB"), ("3 bytes", "3B"), ("1_000,5k", "1000.5KB")])
def test_a_text_that_looks_like_a_size_is_told_the_size_that_it_looks_like(content: str, near: str) -> None:
    (found,) = loads(document(phase(), protocol="ftp", server={"files": {"a": content}})).warnings
    assert found.nearest == near


@pytest.mark.parametrize(("parts", "top", "found"), WARNED)
def test_what_does_nothing(parts: list[dict[str, Any]], top: dict[str, Any], found: str) -> None:
    (one,) = told(*parts, **top)
    assert found in one


@pytest.mark.parametrize(
    ("moment", "hint"),
    [("tls", 'set tls = "starttls" or "implicit" in [server]'), ("starttls", 'set tls = "starttls" in [server]')],
)
def test_the_modes_of_tls_in_which_a_moment_comes(moment: str, hint: str) -> None:
    (warning,) = loads(document(*ends(until={moment: 1}))).warnings
    assert warning.hint == hint


KNOB = {"params": {"n": "10m", "c": "0%"}}
SILENT: list[tuple[list[dict[str, Any]], dict[str, Any]]] = [
    ([rule(["tls", "connect"], close=True)], {}),
    ([rule("starttls", reply=NO)], STARTTLS),
    ([rule("mail", where={"sni": ["none", "a.test"], "tls": False}, reply=NO)], {}),
    ([rule("mail", where={"tls": False}, reply=NO)], STARTTLS),
    ([rule("tls", certificate="b")], {**IMPLICIT, "certificate": TWO}),
    (ends(rule("mail", after="59s", reply=NO), lasts="1m"), {}),
    (ends(rule("idle", after="10m", reply=NO), lasts="1m"), {}),
    (ends(rule("mail", after="{n}", reply=NO), rule("rcpt", chance="{c}", reply=NO), lasts="1m"), KNOB),
    (ends(rule("mail", after="20m", reply=NO), lasts="{n}"), {"params": {"n": "10m"}}),
    (ends(rule("mail", nth=3, reply=NO), until={"mail": 3}), {}),
    (ends(rule(["mail", "rcpt"], nth=4, reply=NO), until={"mail": 3}), {}),
    ([rule("connect", times=1, reply=NO), rule("connect", reply=NO)], {}),
    ([rule("connect", chance="50%", reply=NO), rule("connect", reply=NO)], {}),
    ([rule("connect", first=3, reply=NO), rule("connect", reply=NO)], {}),
    ([rule("mail", reply=NO), rule("any", reply=NO)], {}),
    ([rule("mail", reply=NO), rule(["mail", "rcpt"], reply=NO)], {}),
    ([rule("mail", where={"sender": "a@*"}, reply=NO), rule("mail", where={"sender": "b@*"}, reply=NO)], {}),
    ([rule("mail", nth=2, reply=NO), rule("mail", nth=2, per="client", reply=NO)], {}),
    ([rule("idle", after="5m", close=True), rule("idle", after="6m", reply=NO)], {}),
    ([rule("retr", reply=NO)], {"protocol": "ftp", "server": {"files": {"a": "3MB", "b": "3 apples", "c": ""}}}),
    ([rule("pass", where={"user": "bob"}, reply=NO)], {"protocol": "ftp", "server": {"users": {"ann": "x"}}}),
    ([rule("mail", where={"user": "A*"}, reply=NO)], {"server": {"users": {"ann": "x"}}}),
    ([rule("mail", reply="451 " + "x" * 506)], {}),
    ([rule("mail", reply="421 x")], {"expect": {"new_connection_after": 421}}),
    ([rule("request", altsvc='h2="a.test:443"; ma=60, h3=":443"')], {"protocol": "http"}),
    ([rule("request", altsvc="clear")], {"protocol": "http"}),
]  # fmt: skip


@pytest.mark.parametrize(("parts", "top"), SILENT)
def test_what_does_something(parts: list[dict[str, Any]], top: dict[str, Any]) -> None:
    assert told(*parts, **top) == []


@pytest.mark.parametrize("name", catalogue.names())
def test_the_catalogue_has_none(name: str) -> None:
    assert scenario(name).warnings == ()


FILE = 'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "starttls"\nreply = "454 no"\n'


class TestWhereTheyAreTold:
    def test_a_fake_that_plays_a_file_warns_at_its_line(self, tmp_path: Path) -> None:
        file = tmp_path / "own.toml"
        file.write_text(FILE)
        with pytest.warns(ScenarioWarning, match="'starttls' never comes") as caught, FakeSMTP(str(file)):
            pass
        assert [(warning.filename, warning.lineno) for warning in caught] == [(str(file), 4)]

    def test_a_server_option_may_make_it_right(self, tmp_path: Path) -> None:
        file = tmp_path / "own.toml"
        file.write_text(FILE)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with FakeSMTP(str(file), tls="starttls"):
                pass

    def test_a_scenario_that_is_swapped_in_warns_as_well(self, tmp_path: Path) -> None:
        file = tmp_path / "own.toml"
        file.write_text('protocol = "http"\n[[phase]]\n[[phase.rule]]\non = "request"\nchance = "0%"\nstatus = 503\n')
        with FakeHTTP() as http, pytest.warns(ScenarioWarning, match="never acts"):
            http.play(str(file))

    @pytest.mark.parametrize("command", ["try"])
    def test_the_command_line_has_a_line_for_it(self, tmp_path: Path, command: str) -> None:
        file = tmp_path / "own.toml"
        file.write_text(FILE)
        result = CliRunner().invoke(group, [command, str(file), "--", sys.executable, "-c", ""])
        assert f"{file}:4: warning: phase[0].rule[0].on: the moment 'starttls' never comes" in result.stderr
