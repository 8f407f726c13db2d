"""Loading scenarios: what is right loads, what is wrong says where, what was found, and what is allowed."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

import notnow
from notnow.errors import ScenarioError
from notnow.language import catalogue
from notnow.language.loading import load, loads
from notnow.language.scenario import Scenario
from notnow.language.schema import json_schema
from playbook import document, phase
from playbook import rule as rule_of

HEAD = 'protocol = "smtp"\n[[phase]]\nname = "one"\n'  # three lines


def rule(text: str, head: str = HEAD) -> str:
    """A scenario with one rule, which begins on line 4."""
    return f"{head}[[phase.rule]]\n{text}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        loads(text, file="x.toml")
    return str(caught.value).splitlines()


MISTAKES = {
    # text of a rule -> the message
    'on = "conect"\nclose = true': "x.toml:5: phase[0].rule[0].on: there is no moment 'conect'; allowed: connect, *"
    "; did you mean 'connect'?",
    'on = "connect"\nrepply = "421 x"': "x.toml:6: phase[0].rule[0].repply: there is no key 'repply'; allowed: *reply*"
    "; did you mean 'reply'?",
    "close = true": "x.toml:4: phase[0].rule[0]: the key 'on' is missing; allowed: *moment*",
    'on = "connect"\nreply = "42 x"': "x.toml:6: phase[0].rule[0].reply: found '42 x'; allowed: reply lines such as *",
    'on = "connect"\nreply = ["421-a", "421-b"]': "x.toml:6: *; allowed: a last line with a space after the code*",
    'on = "connect"\nreply = ["421-a", "450 b"]': "x.toml:6: *; allowed: the same code on every line of a reply*",
    'on = "connect"\nreply = "421 a\\r\\nb"': "x.toml:6: *on one line), not '421 a*",
    'on = "connect"\nreply = "421 a\\rb"': "x.toml:6: *on one line), not '421 a*",
    'on = "connect"\nreply = [421]': "x.toml:6: phase[0].rule[0].reply: found [421]; allowed: reply lines such as *",
    "on = []\nclose = true": "x.toml:5: phase[0].rule[0].on: found []; allowed: at least one",
    "on = 5\nclose = true": "x.toml:5: phase[0].rule[0].on: found 5; allowed: text, or a list of texts",
    'on = "connect"\nper = []\nclose = true': "x.toml:6: phase[0].rule[0].per: found []; allowed: at least one of server, *",
    'on = "connect"\nover = true\nclose = true': "x.toml:6: phase[0].rule[0].over: found true; allowed: a whole number",
    'on = "connect"\nfirst = "0s"\nclose = true': "x.toml:6: *first: found '0s'; allowed: a number of events *",
    'on = "connect"\nwhere = "x"\nclose = true': "x.toml:6: phase[0].rule[0].where: found 'x'; allowed: a table of facts",
    'on = "connect"\nstall = "yes"': "x.toml:6: phase[0].rule[0].stall: found 'yes'; allowed: true or false",
    'on = "connect"\nreply = []': "x.toml:6: *; allowed: at least one reply line",
    'on = "connect"\ndelay = "soon"': "x.toml:6: phase[0].rule[0].delay: found 'soon'; allowed: a number and a unit *",
    'on = "connect"\ndelay = 3': "x.toml:6: phase[0].rule[0].delay: found 3; allowed: a number and a unit *",
    'on = "connect"\nover = -1\nclose = true': "x.toml:6: phase[0].rule[0].over: found -1; allowed: 0 or more",
    'on = "connect"\nnth = 0\nclose = true': "x.toml:6: phase[0].rule[0].nth: found 0; allowed: 1 or more",
    'on = "connect"\nnth = "x"\nclose = true': "x.toml:6: phase[0].rule[0].nth: found 'x'; allowed: a whole number",
    'on = "connect"\nfirst = 0\nclose = true': "x.toml:6: *first: found 0; allowed: a number of events *",
    'on = "connect"\nchance = "120%"\nclose = true': "x.toml:6: *chance: found '120%'; allowed: a percentage *",
    'on = "connect"\nclose = "abrubt"': 'x.toml:6: *; allowed: true, false, "reset" or "abrupt"; did you mean \'abrupt\'?',
    'on = "connect"\nper = "cleint"\nnth = 1\nclose = true': "x.toml:6: *allowed: server, client, *did you mean 'client'?",
    'on = "connect"\nfault = "exim"': "x.toml:6: phase[0].rule[0].fault: there is no fault 'exim'; allowed: none",
    'on = "connect"\nwhere = { sendr = "*" }\nclose = true': "x.toml:6: *there is no fact 'sendr'; *did you mean 'sender'?",
    'on = "connect"\nwhere = { sender = "*" }\nclose = true': "x.toml:6: *'sender' is not known at 'connect'; allowed: at *mail*",
    'on = "mail"\nwhere = { header.subject = "*" }\nclose = true': "x.toml:6: *'header' is not known at 'mail'; allowed: at message",
    'on = "tls"\nreply = "421 x"': "x.toml:6: *reply: 'reply' cannot be done at 'tls'; allowed: alert, certificate, close",
    'on = "mail"\nafter_bytes = 3\nclose = true': "x.toml:6: *'after_bytes' cannot be done at 'mail'; *",
    'on = "tls"\ncertificate = "bad"': "x.toml:6: *certificate: there is no certificate 'bad'; allowed: none",
    'on = "tls"\nalert = "unrecognised_name"': "x.toml:6: *did you mean 'unrecognized_name'?",
    'on = "idle"\nclose = true': "x.toml:4: phase[0].rule[0]: 'idle' needs the length of the silence; allowed: after = \"5m\"",
    'on = ["idle", "mail"]\nafter = "3s"\nclose = true': "x.toml:5: *'idle' stands alone*",
    'on = "mail"\nsince = "connect"\nclose = true': "x.toml:6: *'since' goes with on = \"idle\"*",
    'on = "mail"\nwithin = "3s"\nclose = true': "x.toml:6: *'within' goes with 'over'*",
    'on = "mail"\nstall = true\nreply = "421 x"': "x.toml:6: *stall*",
    'on = "mail"\nkeep = true': "x.toml:6: *'keep' goes with a reply or a close*",
    'on = "connect"\nreply = "421 {left.seconds}"': "x.toml:6: *left*",
    'on = "connect"\nreply = "421 {nobody}"': "x.toml:6: *there is no placeholder {nobody}*",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_a_rule_says_where_and_what_is_allowed(text: str) -> None:
    from fnmatch import fnmatchcase

    found = problems(rule(text))
    pattern = MISTAKES[text].replace("[", "[[]")
    assert any(fnmatchcase(line, pattern) for line in found), found


DOCUMENTS = {
    'protocol = "smpt"\n': "x.toml:1: protocol: found 'smpt'; allowed: smtp, ftp, http; did you mean 'smtp'?",
    'summary = "no protocol"\n': "x.toml: protocol: the key 'protocol' is missing; allowed: smtp, ftp, http",
    'protocol = "smtp"\nphases = 3\n': "x.toml:2: phases: there is no key 'phases'; *did you mean 'phase'?",
    'protocol = "smtp"\nrepeat = 1\n': "x.toml:2: repeat: found 1; allowed: true or false",
    'protocol = "smtp"\n[server]\ntls = "startls"\n': "x.toml:3: server.tls: *allowed: none, starttls, implicit; did you mean 'starttls'?",
    'protocol = "smtp"\n[expect]\ndelivred = {}\n': "x.toml:3: expect.delivred: *did you mean 'delivered'?",
    'protocol = "smtp"\n[expect]\ndelivered = { time = 1 }\n': "x.toml:3: expect.delivered.time: *did you mean 'times'?",
    'protocol = "smtp"\n[[phase]]\nlasts = "3s"\n': "x.toml:3: phase[0].lasts: the last phase never ends; *",
    'protocol = "smtp"\n[[phase]]\nlasts = "0s"\n[[phase]]\n': "x.toml:3: phase[0].lasts: found '0s'; *at least 1ms",
    'protocol = "smtp"\n[[phase]]\nuntil = { conect = 3 }\n[[phase]]\n': "x.toml:3: phase[0].until*'conect'*did you mean 'connect'?",
    'protocol = "smtp"\n[fault.x]\nclose = true\n': "x.toml:2: fault.x: nothing uses the fault 'x'*",
    'protocol = "smtp"\nprotocol = "smtp"\n': "x.toml:2: not valid TOML: *",
    'protocol = "smtp\n': "x.toml:1: not valid TOML: *",
    f"a = {'9' * 5000}\n": "x.toml: not valid TOML: a number of more than 64 bits",
    f'protocol = "smtp"\nsummary = 0x{"f" * 5000}\n': "x.toml:2: summary: found a number of more than 64 bits; allowed: 9223372036854775807 at most",
    f'protocol = "smtp"\n[server]\nlimits = {{ mailmax = {2**63} }}\n': "x.toml:3: server.limits.mailmax: found a number of more *",
    f'protocol = "smtp"\nsources = ["x", {-(2**64)}]\n': "x.toml:2: sources[1]: found a number of more *",
    f"a = {'[' * 5000}\n": "x.toml: not valid TOML: nested too deeply",
    f"{'a.' * 100_000}b = 1\n": "x.toml:1: not valid TOML: a key has more than 50 parts",
    f"a = 1\n[{'a .' * 50}b]\n": "x.toml:2: not valid TOML: a key has more than 50 parts",
    f"""x = {{ {'"a".' * 60}b = 1 }}\n""": "x.toml:1: not valid TOML: a key has more than 50 parts",
    f"""protocol = 'smtp'\nsources = ['{"a." * 60}', "{"a." * 60}"]\nx = 1\n""": "x.toml:3: x: there is no key 'x'*",
    f"""protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\nreply = "{"x" * 90}"\n""": "x.toml:5: *, on one line), not '"
    + "x" * 79,
    'protocol = "smtp"\nparams = 5\n': "x.toml:2: params: found 5; allowed: a table",
    'protocol = "smtp"\nphase = 5\n': "x.toml:2: phase: found 5; allowed: a list",
    'protocol = "smtp"\nphase = [5]\n': "x.toml:2: phase[0]: found 5; allowed: a table",
    'protocol = "smtp"\nsources = [1]\n': "x.toml:2: sources[0]: found 1; allowed: text",
    'protocol = "smtp"\n[server]\nusers = { ann = 5 }\n': "x.toml:3: server.users.ann: found 5; allowed: text",
    'protocol = "smtp"\n[certificate.x]\nnames = []\n': "x.toml:3: certificate.x.names: found []; allowed: at least one",
    'protocol = "smtp"\n[certificate.x]\nexpird = true\n': "x.toml:3: certificate.x.expird: *did you mean 'expired'?",
    'protocol = "smtp"\n[fault.server]\nreplyy = "421"\n': "x.toml:3: fault.server.replyy: *did you mean 'reply'?",
    'protocol = "smtp"\n[[phase]]\nlast = "3s"\n': "x.toml:3: phase[0].last: *did you mean 'lasts'?",
    'protocol = "smtp"\n[[phase]]\nuntil = { mail = 0 }\n[[phase]]\n': "x.toml:3: phase[0].until.mail: found 0; allowed: 1 or more",
    'protocol = "smtp"\n[[phase]]\nlasts = "0.5ms"\n[[phase]]\n': "x.toml:3: phase[0].lasts: found '0.5ms'; *at least 1ms",
    'protocol = "smtp"\n[[phase]]\nlasts = "40000d"\n[[phase]]\n': "x.toml:3: phase[0].lasts: *36500d at most*",
}


@pytest.mark.parametrize("text", DOCUMENTS)
def test_a_mistake_elsewhere_says_where_and_what_is_allowed(text: str) -> None:
    from fnmatch import fnmatchcase

    found = problems(text)
    assert any(fnmatchcase(line, DOCUMENTS[text].replace("[", "[[]")) for line in found), found


def test_of_many_mistakes_the_first_are_told() -> None:
    found = problems('protocol = "smtp"\n' + "".join(f"key{number} = 1\n" for number in range(1000)))
    assert len(found) == 201
    assert found[-1] == "x.toml: there are 800 more mistakes"
    assert found[0].startswith("x.toml:2: key0: there is no key 'key0'")


def test_all_problems_are_told_at_once_in_the_order_of_their_lines() -> None:
    text = 'protocol = "smtp"\nrepeat = 1\n[[phase]]\n[[phase.rule]]\non = "connect"\ndelay = 3\n'
    assert [line.split(":")[1] for line in problems(text)] == ["2", "6"]


def test_one_of_each_kind_at_once() -> None:
    text = """protocol = "smtp"
repeet = true
[params]
idle = "5m"
[fault.x]
close = true
[[phase]]
lasts = "soon"
"""
    assert [line.partition("; allowed")[0] for line in problems(text)] == [
        "x.toml:2: repeet: there is no key 'repeet'",
        "x.toml:4: params.idle: nothing uses the knob 'idle'",
        "x.toml:8: phase[0].lasts: found 'soon'",
    ]


def test_a_fault_that_a_knob_may_choose_is_used() -> None:
    text = 'protocol = "smtp"\n[params]\nlike = "x"\n[fault.x]\nclose = true\n[fault.y]\nclose = true\n'
    chosen = '[[phase]]\n[[phase.rule]]\non = "connect"\nfault = "{like}"\n'
    assert loads(text + chosen).faults == ("x", "y")
    with pytest.raises(ScenarioError, match="there is no fault 'z'; allowed: x, y"):
        loads(text + chosen, knobs={"like": "z"})


def test_a_knob_can_have_any_name_that_a_keyword_can() -> None:
    text = rule(
        'on = "connect"\nover = "{self}"\nclose = true', HEAD.replace("[[phase]]", "[params]\nself = 3\n[[phase]]")
    )
    assert loads(text).with_knobs(self=5).knobs == {"self": 5}


def test_a_file_that_windows_has_marked_as_utf_8(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text('protocol = "smtp"\n', "utf-8-sig")
    assert load(file).protocol == "smtp"


def test_a_scenario_is_frozen() -> None:
    made = loads(rule('on = "connect"\nclose = true'))
    with pytest.raises(AttributeError):
        made.name = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        made.phases[0].rules[0].close = False  # type: ignore[misc]


def test_a_rule_takes_a_fault_by_name_and_its_own_words_go_first() -> None:
    text = '[fault.slow]\nreply = "421 x"\ndelay = "3s"\n'
    made = loads(rule('on = "connect"\nfault = "slow"\ndelay = "9s"', HEAD.replace("[[phase]]", text + "[[phase]]")))
    (found,) = made.rules()
    assert (found.reply, found.delay) == (("421 x",), 9)


def test_the_faulty_rules_are_those_of_any_phase_that_misbehave() -> None:
    healthy = phase(rule_of("mail", nth=1), until={"mail": 1})
    made = loads(document(healthy, phase(rule_of("mail", reply="451 no"), rule_of("rcpt", close=True))))
    assert [found.on for found in made.faulty] == [("mail",), ("rcpt",)]
    assert len(list(made.rules())) == 3


def test_the_hosts_are_the_names_of_its_certificates_once_each() -> None:
    names = [["a.test", "192.0.2.1", "*.b.test"], ["a.test", "c.test"]]
    certificates = {f"n{i}": {"names": each} for i, each in enumerate(names)}
    made = loads(document(phase(), protocol="http", certificate=certificates))
    assert made.hosts == ("a.test", "www.b.test", "c.test")


def test_no_phase_is_a_healthy_server() -> None:
    assert loads('protocol = "smtp"\n').phases[0].rules == ()


def test_the_name_scenario_is_a_function_whether_or_not_its_module_is_loaded() -> None:
    made = notnow.scenario("smtp/overload", outage="2s")
    assert isinstance(made, Scenario)
    assert made.phases[0].lasts == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'summary = "\xe9"')
    for file in (tmp_path / "nowhere.toml", tmp_path, tmp_path / "latin.toml"):
        with pytest.raises(ScenarioError, match="cannot be read"):
            load(file)


# ---- the schema --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    Draft7Validator.check_schema(json_schema())
    return Draft7Validator(json_schema())


@pytest.mark.parametrize("name", catalogue.names())
def test_the_schema_accepts_the_catalogue(schema: Draft7Validator, name: str) -> None:
    import tomllib

    schema.validate(tomllib.loads(catalogue.locate(name).read_text("utf-8")))


@pytest.mark.parametrize(
    "rule",
    [
        {"on": []},
        {"on": "mail", "per": "x"},
        {"on": "mail", "delay": "soon"},
        {"on": "mail", "close": 1},
        {"on": "conect"},
        {"on": ["connect", 5]},
        {"on": "connect", "reply": ["421-a", 5]},
        {"on": "mail", "nth": 0},
        {"on": "mail", "over": "x"},
        {"close": True},
        {"on": "mail", "no": 1},
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(schema: Draft7Validator, rule: dict[str, object]) -> None:
    assert not schema.is_valid({"protocol": "smtp", "phase": [{"rule": [rule]}]})


@pytest.mark.parametrize(("status", "valid"), [(199, False), (200, True), (599, True), (600, False)])
def test_the_schema_bounds_a_status(schema: Draft7Validator, status: int, valid: bool) -> None:
    document = {"protocol": "http", "phase": [{"rule": [{"on": "request", "status": status}]}]}
    assert schema.is_valid(document) is valid


@pytest.mark.parametrize(("on", "user", "valid"), [(["mail"], "a", True), ([], "a", False), (["mail"], "", False)])
def test_the_schema_asks_for_one_moment_and_one_character_of_a_name(
    schema: Draft7Validator, on: list[str], user: str, valid: bool
) -> None:
    document = {"protocol": "smtp", "server": {"users": {user: "x"}}, "phase": [{"rule": [{"on": on, "delay": "1s"}]}]}
    assert schema.is_valid(document) is valid


@pytest.mark.parametrize("last", [-1, 0, 2**31 - 1, 2**31])
def test_the_schema_and_the_loader_agree_on_the_last_stream_of_a_goaway(schema: Draft7Validator, last: int) -> None:
    rules = [{"on": "request", "goaway": {"last": last}}]
    loaded = True
    try:
        loads(document(*rules, protocol="http"))
    except ScenarioError:
        loaded = False
    assert loaded is schema.is_valid({"protocol": "http", "phase": [{"rule": rules}]}) is (0 <= last < 2**31)


def test_a_placeholder_may_stand_for_any_value(schema: Draft7Validator) -> None:
    rule = {"on": "{stage}", "nth": "{n}", "over": "{cap}", "delay": "{wait}", "close": "{how}", "keep": "{keep}"}
    schema.validate(
        {"protocol": "smtp", "phase": [{"rule": [{"on": ["{stage}", "mail"], "chance": "{n}%", "per": ["{who}"]}]}]}
    )
    schema.validate({"protocol": "smtp", "phase": [{"lasts": "{outage}", "until": {"mail": "{n}"}, "rule": [rule]}]})


# ---- nothing but ScenarioError -----------------------------------------------------------------

TEXTS = [catalogue.locate(name).read_text("utf-8") for name in catalogue.names()]
PIECES = [
    "[",
    "]",
    "{",
    "}",
    '"',
    "=",
    "\n",
    "0",
    "-1",
    "true",
    "[[phase]]",
    "[params]",
    "{left.seconds}",
    "{",
    "421",
    ".",
    "\0",
]


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.sampled_from(TEXTS), st.integers(0, 2**32))
def test_a_mangled_scenario_is_a_scenario_error_or_loads(text: str, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(PIECES) + text[at + chance.randrange(0, 8) :]
    with contextlib.suppress(ScenarioError):
        loads(text)
