"""Knobs and placeholders."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from notnow.errors import ScenarioError
from notnow.language.knobs import coerce, is_live, render
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from playbook import document, rule


def scenario(params: str, rule: str, phase: str = "", **values: Any) -> Scenario:
    text = f'protocol = "smtp"\n[params]\n{params}\n[[phase]]\n{phase}\n[[phase.rule]]\n{rule}\n[[phase]]\n'
    return loads(text, name="test", knobs=values)


def problem(params: str, rule: str, **values: Any) -> str:
    with pytest.raises(ScenarioError) as caught:
        scenario(params, rule, **values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("default", "value", "result"),
    [
        (3, "7", 7),
        (3, 7, 7),
        (1.5, "2", 2.0),
        (True, "no", False),
        (False, "on", True),
        (False, True, True),
        ("30s", "2m", "2m"),
        ("30s", 5, "5s"),
        ("30s", 0.25, "0.25s"),
        ("30s", timedelta(minutes=3), "180s"),
        ("20%", "35%", "35%"),
        ("postscreen", "exim", "exim"),
        (["a"], "b,c", ["b", "c"]),
        (["a"], ("d",), ["d"]),
        ([421], "450,451", [450, 451]),
        ([], "a,b", ["a", "b"]),
        (1.5, 2, 2.0),
        (True, 1, True),
    ],
)
def test_a_value_takes_the_type_of_the_default(default: object, value: object, result: object) -> None:
    assert coerce("knob", default, value) == result


@pytest.mark.parametrize(
    ("default", "value", "allowed"),
    [
        (3, "x", "a whole number"),
        (3, 2.5, "a whole number"),
        (3, True, "a whole number"),
        (3, 2**63, "a whole number, 9223372036854775807 at most"),
        (1.5, "x", "a number"),
        (True, "maybe", "true or false"),
        ("30s", "30", "a number and a unit"),
        ("30s", "soon", "a number and a unit"),
        ("20%", "0.2", "a percentage"),
        ("text", 3, "text"),
        ("30s", float("inf"), "a number and a unit"),
        ("30s", float("nan"), "a number and a unit"),
        ("30s", 1e300, "a number and a unit"),
        ("30s", -1, "a number and a unit"),
        ("30s", timedelta(-1), "a number and a unit"),
        ("30s", True, "a number and a unit"),
        (1.5, "nan", "a number"),
        (1.5, "inf", "a number"),
        (3, None, "a whole number"),
        (["a"], 5, "a list; on the command line"),
        ([421], "x", "a whole number"),
        ("20%", 20, "a percentage"),
    ],
)
def test_a_value_of_another_type_names_what_is_allowed(default: object, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=allowed):
        coerce("knob", default, value)


def test_the_words_of_a_switch() -> None:
    assert [coerce("x", True, word) for word in ("true", "yes", "on", "1")] == [True] * 4
    assert [coerce("x", True, word) for word in ("false", "no", "off", "0")] == [False] * 4


def test_a_placeholder_alone_keeps_the_type_of_its_knob() -> None:
    made = scenario("cap = 3", 'on = "connect"\nover = "{cap}"\nreply = "421 no"', cap=5)
    assert made.phases[0].rules[0].over == 5


def test_placeholders_in_text_and_their_seconds_and_braces() -> None:
    rule = 'on = "connect"\nreply = "421 {who} back in {wait.seconds} s {{not a knob}} {client}"'
    made = scenario('who = "x"\nwait = "2m"', rule, who="a{b}")
    (line,) = made.phases[0].rules[0].reply or ()
    assert render(line, lambda name: f"<{name}>") == "421 a{b} back in 120 s {not a knob} <client>"


def test_a_knob_that_nothing_uses_is_an_error() -> None:
    assert "test:3: params.cap: nothing uses the knob 'cap'" in problem("cap = 3", 'on = "connect"\nclose = true')


def test_an_unknown_knob_names_the_nearest() -> None:
    message = problem("outage = '3s'", 'on = "connect"\nclose = true\ndelay = "{outage}"', outag="1s")
    assert message == "test: there is no knob 'outag'; allowed: outage; did you mean 'outage'?"


def test_an_unknown_placeholder_names_the_nearest() -> None:
    message = problem("cap = 3", 'on = "connect"\nreply = "421 {capp} {cap}"')
    assert message.startswith(
        "test:8: phase[0].rule[0].reply: there is no placeholder {capp}; allowed: {cap}, {client}"
    )
    assert message.endswith("did you mean 'cap'?")


def test_an_unknown_placeholder_stays_in_the_text_of_other_problems() -> None:
    with pytest.raises(ScenarioError) as caught:
        loads(document(rule("mail", close="x{nowhere}")))
    assert [found.found for found in caught.value.problems][1:] == ["found 'x{nowhere}'"]


@pytest.mark.parametrize("text", ["{port}", "a {{", "}} b"])
def test_a_text_with_a_brace_is_filled(text: str) -> None:
    assert is_live(text)
    assert not is_live("a b")


def test_what_is_known_only_while_running_cannot_be_a_condition() -> None:
    message = problem("cap = 3", 'on = "connect"\nwhere = { client = "{client}" }\nover = "{cap}"')
    assert "{client} is known only while the fake runs" in message


@pytest.mark.parametrize(
    "default", ["{ x = 1 }", "2020-01-01", "[[1]]", "[1, 'a']", "[1, true]", "nan", "inf", "[{ x = 1 }]"]
)
def test_a_default_has_a_type_that_a_knob_can_have(default: str) -> None:
    assert "allowed: text, a number, true or false, or a list" in problem(f"a = {default}", 'on = "mail"\nnth = "{a}"')


def test_a_value_that_is_given_is_no_template() -> None:
    for reply in ("{text}", "421 {text}"):
        made = scenario('text = "421 x"', f'on = "connect"\nreply = "{reply}"', text="421 {nobody} }{")
        (line,) = made.phases[0].rules[0].reply or ()
        assert render(line, lambda name: f"<{name}>").endswith("421 {nobody} }{")


def test_a_knob_with_several_lines() -> None:
    made = scenario('text = ["421 x"]', 'on = "connect"\nreply = "{text}"', text=["421-{a}", "421 b"])
    assert [render(line, str) for line in made.phases[0].rules[0].reply or ()] == ["421-{a}", "421 b"]


def test_a_key_that_is_called_reply_elsewhere_is_no_reply() -> None:
    where = 'on = "message"\nwhere = { header.reply = "{client}" }\nover = "{cap}"\nclose = true'
    assert "{client} is known only while the fake runs" in problem("cap = 3", where)


@pytest.mark.parametrize(
    "name",
    [
        "host",
        "port",
        "seed",
        "clock",
        "client",
        "limit",
        "left",
        "tls",
        "users",
        "files",
        "app",
        "journal_limit",
        "name",
        "search_paths",
        "relative_to",
    ],
)
def test_a_knob_may_not_be_named_like_an_option_or_a_placeholder(name: str) -> None:
    message = problem(f"{name} = 3", f'on = "connect"\nover = "{{{name}}}"\nclose = true')
    assert f"a knob may not be called {name!r}" in message


def test_a_knob_may_be_named_like_the_first_half_of_a_placeholder() -> None:
    """`{data.port}` is known to the fake; `data` alone is nobody's."""
    made = scenario('data = "5s"', 'on = "connect"\nreply = "421 {data} {data.seconds}"')
    assert made.phases[0].rules[0].reply == ("421 5s 5",)


def test_with_knobs_keeps_what_was_given_before() -> None:
    made = scenario("a = 1\nb = 2", 'on = "connect"\nover = "{a}"\ntimes = "{b}"\nclose = true', a=5)
    assert dict(made.with_knobs(b=7).knobs) == {"a": 5, "b": 7}


class TestPlaceholdersInADefault:
    """A default is part of the file: what its text names is filled in where the knob is used."""

    def reply(self, params: str, reply: str = "421 {text}", **values: Any) -> str:
        made = scenario(params, f'on = "connect"\nreply = "{reply}"', 'lasts = "1h"', **values)
        (line,) = made.phases[0].rules[0].reply or ()
        return render(line, lambda name: f"<{name}>")

    def test_live_ones(self) -> None:
        assert self.reply('text = "back in {left.seconds} s, {client}"') == "421 back in <left.seconds> s, <client>"
        assert self.reply('text = "421 {client}"', reply="{text}") == "421 <client>"
        assert self.reply('text = ["421 {client}"]', reply="{text}") == "421 <client>"

    def test_other_knobs(self) -> None:
        params = 'text = "{who} for {outage.seconds} s"\nwho = "{name_}"\nname_ = "ann"\noutage = "2m"'
        assert self.reply(params) == "421 ann for 120 s"
        assert self.reply(params, who="{x}") == "421 {x} for 120 s"
        assert self.reply(params, text="bob") == "421 bob"

    def test_braces(self) -> None:
        assert self.reply('text = "{{client}} }}{{"') == "421 {client} }{"

    def test_alone_it_keeps_the_type_of_the_other(self) -> None:
        made = scenario('cap = 3\nmost = "{cap}"', 'on = "connect"\nover = "{most}"\nclose = true', most="5")
        assert (made.knobs["most"], made.phases[0].rules[0].over) == (5, 5)
        made = scenario('cap = 3\nmost = "{cap}"', 'on = "connect"\nover = "{most}"\nclose = true', cap=7)
        assert made.phases[0].rules[0].over == 7

    def test_given_again_it_is_still_the_default(self) -> None:
        made = scenario('text = "{client}"\nn = 1', 'on = "connect"\nnth = "{n}"\nreply = "421 {text}"')
        (line,) = made.with_knobs(n=2).phases[0].rules[0].reply or ()
        assert line == "421 {client}"

    @pytest.mark.parametrize(
        ("params", "rule", "message"),
        [
            ('text = "{clinet}"', 'reply = "421 {text}"', "there is no placeholder {clinet}, in the default of the knob 'text'"),
            ('text = "{client}"', 'where = { client = "{text}" }', "{client}, in the default of the knob 'text', is known only"),
            ('a = "{b}"\nb = "{a}"', 'reply = "421 {a}"', "the knob 'a' stands in its own default, by way of a and b"),
            ('text = "{left.seconds}"', 'reply = "421 {text}"', "this phase ends at no fixed time"),
        ],
    )  # fmt: skip
    def test_ones_that_have_no_value(self, params: str, rule: str, message: str) -> None:
        assert message in problem(params, f'on = "connect"\n{rule}')


@pytest.mark.parametrize(("protocol", "known"), [("smtp", False), ("ftp", True), ("http", False)])
def test_only_the_placeholders_of_the_protocol_are_offered(protocol: str, known: bool) -> None:
    said = 'reply = "421 {port1}"' if protocol != "http" else 'body = "{port1}"'
    on = {"smtp": "mail", "ftp": "pasv", "http": "request"}[protocol]
    with pytest.raises(ScenarioError) as caught:
        loads(f'protocol = "{protocol}"\n[[phase]]\n[[phase.rule]]\non = "{on}"\n{said}\n')
    (found,) = caught.value.problems
    assert ("{p1}" in found.allowed, "{host}" in found.allowed) == (known, True)
    assert found.nearest == ("p1" if known else "port")


def test_a_cap_of_zero_lets_nobody_in_but_a_quota_of_zero_is_used_up() -> None:
    cap = 'on = "connect"\nover = "{cap}"\nreply = "421 no"'
    assert "knob 'cap' is 0, so no client ever gets in" in problem("cap = 3", cap, cap=0)
    assert scenario("cap = 3", f'{cap}\nwithin = "1m"', cap=0).knobs["cap"] == 0
