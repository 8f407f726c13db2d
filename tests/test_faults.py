"""The keys of a fault: each is allowed somewhere, does something, is told by `notnow show`, and fills its placeholders."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from notnow import protocols, words
from notnow.engine.steps import filled, is_deferred, steps_of, takes_effect
from notnow.errors import ScenarioError
from notnow.language.faults import ACTING_KEYS, ALERTS, FAULT_KEYS, SPOKEN_KEYS, GoAway, texts
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from playbook import document, rule

NO = "451 no"
# A value of each key, where it may stand, and the keys without which it has nothing to do. A new key goes here.
SAMPLES: dict[str, tuple[str, str, Any, dict[str, Any]]] = {
    "reply": ("smtp", "mail", "451 {host}", {}),
    "status": ("http", "request", 503, {}),
    "headers": ("http", "request", {"via": "{host}"}, {}),
    "body": ("http", "request", "{host}", {}),
    "reset_stream": ("http", "request", "CANCEL", {}),
    "goaway": ("http", "request", True, {}),
    "altsvc": ("http", "request", 'h2="{host}:443"', {}),
    "origin": ("http", "request", ["https://{host}"], {}),
    "close": ("smtp", "mail", True, {}),
    "stall": ("smtp", "mail", True, {}),
    "delay": ("smtp", "mail", "5s", {"reply": NO}),
    "drip": ("smtp", "mail", "1s", {"reply": NO}),
    "keep": ("smtp", "message", True, {"reply": NO}),
    "after_bytes": ("ftp", "stor", 3, {"close": True}),
    "data": ("ftp", "stor", "reset", {}),
    "certificate": ("smtp", "tls", "a", {}),
    "alert": ("smtp", "tls", "internal_error", {}),
}

# With these alone, the command or request does not take effect: the fault replaces the healthy answer. A new key goes
# here, among those that go with the answer, or among those that say when.
REPLACING = {"reply", "status", "reset_stream", "close", "stall", "alert", "data"}
GOING_WITH = {"headers", "body", "goaway", "altsvc", "origin", "delay", "drip", "keep", "certificate"}
WHEN = {"after_bytes"}


def playing(key: str, *, without: bool = False) -> Scenario:
    protocol, moment, value, beside = SAMPLES[key]
    made = rule(moment, **beside, **({} if without else {key: value}))
    return loads(document(made, protocol=protocol, certificate={"a": {}}, server={"tls": "implicit"}))


def done(scenario: Scenario) -> tuple[object, ...]:
    (one,) = scenario.phases[0].rules
    moment = protocols.get(scenario.protocol).moments[one.on[0]]
    return steps_of(one, moment), is_deferred(one, moment), takes_effect(one, moment)


def test_every_key_has_a_sample() -> None:
    assert list(SAMPLES) == list(FAULT_KEYS)


def test_every_key_replaces_the_answer_or_goes_with_it() -> None:
    assert sorted([*REPLACING, *GOING_WITH, *WHEN]) == sorted(FAULT_KEYS)


@pytest.mark.parametrize("key", sorted(REPLACING | GOING_WITH))
def test_only_a_fault_that_replaces_the_answer_prevents_the_effect(key: str) -> None:
    """`takes_effect` has to know each of them, else a command would be refused and obeyed."""
    protocol, moment, value, beside = SAMPLES[key]
    beside = beside if key == "keep" else {}
    tables = {"certificate": {"a": {}}, "server": {"tls": "implicit"}}
    _, _, effect = done(loads(document(rule(moment, **beside, **{key: value}), protocol=protocol, **tables)))
    assert effect is (key not in REPLACING)


@pytest.mark.parametrize("key", FAULT_KEYS)
def test_a_key_is_allowed_at_some_moment(key: str) -> None:
    assert any(key in moment.faults for protocol in protocols.every() for moment in protocol.moments.values())


def test_a_moment_has_keys_that_there_are() -> None:
    named = {key for protocol in protocols.every() for moment in protocol.moments.values() for key in moment.faults}
    assert named == set(FAULT_KEYS)


@pytest.mark.parametrize("key", FAULT_KEYS)
def test_a_key_makes_a_difference(key: str) -> None:
    """Else it would load and be passed over: `engine.steps` has to know it."""
    assert done(playing(key)) != done(playing(key, without=True))


@pytest.mark.parametrize("key", FAULT_KEYS)
def test_show_tells_it(key: str) -> None:
    (told,), (other,) = (words.phases(playing(key, without=without))[0].rules for without in (False, True))
    assert (told.does, told.lines) != (other.does, other.lines)


@pytest.mark.parametrize("key", FAULT_KEYS)
def test_the_keys_whose_text_is_spoken(key: str) -> None:
    value = str(SAMPLES[key][2])
    assert ("{host}" in value) is (key in SPOKEN_KEYS)
    assert any("{host}" in text for text in texts(playing(key).phases[0].rules[0])) is (key in SPOKEN_KEYS)


@pytest.mark.parametrize("key", SPOKEN_KEYS)
def test_its_placeholders_are_filled(key: str) -> None:
    (one,) = playing(key).phases[0].rules
    moment = protocols.get(SAMPLES[key][0]).moments[one.on[0]]
    steps = filled(steps_of(one, moment), {"host": "a.test"}.__getitem__)
    assert "a.test" in repr(steps)
    assert "{host}" not in repr(steps)


@pytest.mark.parametrize("key", [key for key in FAULT_KEYS if key not in ("after_bytes", "certificate", "alert")])
def test_a_key_that_acts_by_itself_may_be_put_off_by_after_bytes(key: str) -> None:
    protocol, moment = next(
        (name, moment)
        for name, moment in (("ftp", "stor"), ("http", "request"))
        if key in protocols.get(name).moments[moment].faults
    )
    found = ""
    try:
        loads(document(rule(moment, after_bytes=3, **{key: SAMPLES[key][2]}), protocol=protocol))
    except ScenarioError as error:
        found = str(error)
    assert ("nothing is done after these bytes" in found) is (key not in ACTING_KEYS)


def test_alerts_are_those_that_python_can_send() -> None:
    assert sorted(ALERTS) == sorted(a.name.removeprefix("ALERT_DESCRIPTION_").lower() for a in ssl.AlertDescription)


def test_what_an_editor_offers_for_goaway() -> None:
    on, code, table = GoAway.schema["anyOf"]
    assert (on, "NO_ERROR" in code["enum"], list(table["properties"])) == ({"const": True}, True, ["code", "last"])
    assert table["additionalProperties"] is False
