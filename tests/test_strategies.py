"""Invented scenarios: all of the grammar comes up, only valid ones do, and they find what is planted in eight clients.

In the gate, each planted fault is looked for in 200 examples, and careful clients play 40; `python -m tests.bench.strategies`
plays 500 of each.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.vendor.pretty import pretty
from msgspec import structs

from chaos_clients import CAREFUL, CLIENTS, REPORT, Client, FailedError, uploads
from notnow import FakeFTP, FakeHTTP, FakeSMTP, Scenario, ScenarioError, protocols
from notnow.chaos import save, scenarios, seek_amplification, toml
from notnow.chaos import strategies as ours
from notnow.chaos.strategies_values import of_schema
from notnow.language.conditions import When
from notnow.language.faults import FAULT_KEYS
from notnow.language.loading import load
from notnow.language.tables import Kind
from notnow.language.values import Count, Duration, Flag, Percent, Text, any_table, one_of, whole_number
from notnow.protocols.moment import command
from notnow.servers.base.fake import Fake
from notnow.time_travel.fast_forward import FastForward, kept_in_place

FAKES = {"smtp": FakeSMTP, "ftp": FakeFTP, "http": FakeHTTP}
MODES = [(name, tls) for name in protocols.NAMES for tls in protocols.get(name).tls_modes]


def drawn(strategy: st.SearchStrategy[Any], see: Callable[[Any], object], examples: int) -> None:
    """Draw from a strategy; always the same."""

    @seed(421)
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def draw(value: Any) -> None:
        see(value)

    draw()


# ---- the grammar ---------------------------------------------------------------------------------


RARE = ("tls", "idle")  # moments with keys that only they have


@pytest.mark.parametrize("name", protocols.NAMES)
def test_every_moment_fault_and_condition_comes_up(name: str) -> None:
    record, seen = protocols.get(name), set[tuple[str, str]]()

    def see(scenario: Scenario) -> None:
        assert not scenario.warnings
        for rule in scenario.rules():
            seen.update(("moment", on) for on in rule.on)
            seen.update(("fault", key) for key in FAULT_KEYS if getattr(rule, key) is not None)
            seen.update(("condition", key) for key in When.KEYS if getattr(rule, key) not in (None, ("server",)))

    for tls in record.tls_modes:
        drawn(scenarios(name, tls=tls, max_faults=20), see, examples=30 + len(record.moments))
    drawn(scenarios(name, tls="implicit", max_faults=20, at=RARE), see, examples=40)
    grammar = {("moment", on) for on in record.moments}
    grammar |= {("fault", key) for moment in record.moments.values() for key in moment.faults}
    assert grammar | {("condition", key) for key in When.KEYS} == seen


@pytest.mark.parametrize("tls", ["none", "starttls"])
def test_a_moment_that_cannot_come_in_this_tls_mode_stays_out(tls: str) -> None:
    assert {"tls", "starttls"}.isdisjoint(ours.moments("smtp", tls)) == (tls == "none")


@pytest.fixture
def with_vrfy(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """SMTP with a further moment."""
    known, get = protocols.get("smtp"), protocols.get
    changed = structs.replace(known, moments={**known.moments, "vrfy": command("VRFY.")})
    caches = (ours.moments, ours.faults, ours.beside, ours.conditions)
    monkeypatch.setattr(protocols, "get", lambda name: changed if name == "smtp" else get(name))
    for one in caches:
        one.cache_clear()
    yield
    for one in caches:
        one.cache_clear()


@pytest.mark.usefixtures("with_vrfy")
def test_a_new_moment_comes_up_by_itself() -> None:
    on = set[str]()
    drawn(scenarios("smtp", max_faults=20), lambda scenario: on.update(*(rule.on for rule in scenario.rules())), 20)
    assert "vrfy" in on


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (one_of("a", "b"), ("a", "b")),
        (Flag, (True, False)),
        (Count, (1, 2, 3)),
        (whole_number(0), (1, 2, 3)),
        (whole_number(5), (5, 6, 7)),
        (Duration, ("1s", "2s", "5s", "10s")),
        (Percent, ("50%", "20%", "80%")),
        (Text, ()),
        (any_table(), ()),
    ],
)
def test_a_new_key_has_the_values_of_its_kind(kind: Kind[Any], values: tuple[Any, ...]) -> None:
    assert of_schema(kind.schema) == values
    for value in values:
        kind.read(value)


# ---- its form ------------------------------------------------------------------------------------


def test_the_first_is_healthy_and_says_so() -> None:
    found = list[Scenario]()
    drawn(scenarios("smtp"), found.append, 5)
    assert (found[0].faulty, found[0].summary) == ([], ours.HEALTHY)
    assert all(one.faulty and not one.summary for one in found[1:])


@pytest.mark.parametrize(("protocol", "tls"), MODES)
def test_every_server_is_healthy_in_the_end_and_before_the_outage_is_over(protocol: str, tls: str) -> None:
    def see(scenario: Scenario) -> None:
        *faulty, last = scenario.phases
        assert not last.rules
        assert len(faulty) <= 2
        assert sum(phase.lasts or float("inf") for phase in faulty) <= 30
        assert len(scenario.faulty) <= 3

    drawn(scenarios(protocol, tls=tls, max_faults=3, max_phases=2, outage="30s"), see, 20)


def test_faults_may_stay() -> None:
    last = list[Any]()
    drawn(scenarios("ftp", heals=False), lambda scenario: last.append(scenario.phases[-1]), 20)
    assert all(phase.rules for phase in last[1:])


@pytest.mark.parametrize("protocol", protocols.NAMES)
def test_refusals_for_good_come_only_on_request(protocol: str) -> None:
    def refused(final: bool) -> bool:
        found = list[Any]()
        drawn(
            scenarios(protocol, final=final, at=["connect"], max_faults=20), lambda one: found.extend(one.rules()), 60
        )
        said = [rule.status or int(rule.reply[-1][:3]) for rule in found if rule.status or rule.reply]
        return any(code in (403, 404, 410, 501, 530, 550, 554) for code in said)

    assert (refused(final=False), refused(final=True)) == (False, True)


def test_faults_keep_to_the_moments_and_facts_that_are_asked_for() -> None:
    def see(scenario: Scenario) -> None:
        for rule in scenario.rules():
            assert set(rule.on) <= {"rcpt", "message"}
            wanted.extend((rule.where or {}).get("recipient", []) and [rule.where["recipient"]])

    wanted = list[Any]()
    drawn(scenarios("smtp", at=["rcpt", "message"], where={"recipient": ["bob@*"]}, max_faults=20), see, 60)
    assert set(wanted) == {"bob@*"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"protocol": "smpt"}, "smtp"),
        ({"tls": "tsl"}, "none, starttls, implicit"),
        ({"at": ["rctp"]}, "did you mean 'rcpt'"),
        ({"at": ["starttls"]}, "no moment 'starttls'"),
        ({"where": {"sendr": "x"}}, "sender"),
        ({"max_faults": 0}, "1 or more"),
        ({"max_phases": 0}, "1 or more"),
        ({"outage": "1s", "max_phases": 2}, "at least 1s for each of 2 phases"),
        ({"outage": "banana"}, "banana"),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises((ScenarioError, ValueError), match=told):
        scenarios(arguments.pop("protocol", "smtp"), **arguments)


def test_without_hypothesis_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "notnow.chaos.strategies")
    monkeypatch.delattr("notnow.chaos.strategies")
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r"needs Hypothesis, which is not installed: pip install 'notnow\[chaos\]'"):
        scenarios("smtp")


def test_it_prints_as_toml_that_can_be_pasted_and_saved(tmp_path: Path) -> None:
    found = list[Scenario]()
    drawn(scenarios("ftp"), found.append, 20)
    for scenario in found:
        again = eval(pretty(scenario), {"toml": toml})
        assert (again.phases, again.text.strip()) == (scenario.phases, scenario.text.strip())
        assert load(save(scenario, tmp_path / "new" / "found.toml")).phases == scenario.phases


# ---- what it finds -------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def in_place() -> Iterator[None]:
    with kept_in_place():
        yield


def play(client: Client, scenario: Scenario) -> Fake:
    """One run. Raises AssertionError unless everything came through, once, and as it was to."""
    options = {name: value for name, value in client.options.items() if name != "tls"}
    with FastForward() as world, FAKES[client.protocol](scenario, clock=world.clock, seed=1, **options) as fake:
        with contextlib.suppress(FailedError), fake.client():
            client.run(fake)
        fake.settle()
        files = getattr(fake, "files", {})
        assert files.get("sent.bin", REPORT) == REPORT
    if client.run is not uploads:  # a RNTO that was kept and refused is no failure of the client
        fake.assert_delivered(count=client.items)
    fake.assert_no_duplicates()
    if fake.tls == "starttls":
        assert all(x.connection.tls for x in fake.journal.exchanges if x.moment == "mail")
    return fake


def of(client: Client) -> st.SearchStrategy[Scenario]:
    return scenarios(client.protocol, tls=client.options.get("tls", "none"))


class Search:
    """Hypothesis looks for a scenario in which a client fails, and shrinks it."""

    def __init__(self, client: Client, examples: int, number: int = 1) -> None:
        self.tried = self.first = 0
        self.smallest: Scenario | None = None

        @seed(number)
        @settings(
            max_examples=examples, deadline=None, database=None, report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink],
        )  # fmt: skip
        @given(of(client))
        def holds(scenario: Scenario) -> None:
            self.tried += 1
            try:
                play(client, scenario)
            except BaseException:
                self.first, self.smallest = self.first or self.tried, scenario
                raise

        with contextlib.suppress(AssertionError):
            holds()


@pytest.mark.parametrize("name", CLIENTS)
def test_it_finds_each_planted_fault_and_shrinks_it(name: str, record_property: Callable[[str, object], None]) -> None:
    search = Search(CLIENTS[name], 200)
    assert search.smallest is not None
    record_property("found after", search.first)
    assert 1 <= len(search.smallest.faulty) <= 2
    assert len(search.smallest.phases) <= 3


@pytest.mark.parametrize("name", CAREFUL)
def test_careful_clients_survive(name: str) -> None:
    search = Search(CAREFUL[name], 40)
    assert search.smallest is None, search.smallest.text


def test_a_property_that_can_never_hold_fails_on_the_healthy_server() -> None:
    def never(fake: Any) -> None:
        raise FailedError

    search = Search(Client("smtp", never), 20)
    assert search.smallest is not None
    assert (search.first, search.smallest.summary) == (1, ours.HEALTHY)


def test_amplification_can_be_sought() -> None:
    tries = list[float]()

    @seed(1)
    @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(of(CAREFUL["gets-and-puts"]))
    def storms(scenario: Scenario) -> None:
        fake = play(CAREFUL["gets-and-puts"], scenario)
        seek_amplification(fake)
        tries.append(fake.storm.amplification or 0)

    storms()
    assert max(tries) >= 2
