"""The records of protocols: each is complete, and each part of notnow looks protocols up in them and nowhere else."""

from __future__ import annotations

import ast
import string
from pathlib import Path

import pytest

import notnow
from notnow import protocols, words
from notnow.cli import _lines
from notnow.clock import ManualClock
from notnow.conduct import expected, judging
from notnow.conduct.expectations import delivery
from notnow.conduct.pictures.timeline import render
from notnow.conduct.reading.run import Run
from notnow.journal import Recorder
from notnow.language import catalogue, facts
from notnow.language.expect import Expect
from notnow.language.loading import loads
from notnow.language.schema import json_schema
from notnow.language.server import TLS_MODES, Server
from notnow.protocols.fact import Choice
from notnow.protocols.moment import CONNECTION_FACTS, EVERYWHERE
from notnow.protocols.protocol import Protocol
from notnow.servers import by_protocol

ROOT = Path(notnow.__file__).parent
each = pytest.mark.parametrize("record", protocols.every(), ids=lambda record: record.name)


@each
class TestARecord:
    def test_names_itself_as_the_list_does(self, record: Protocol) -> None:
        assert protocols.get(record.name) is record
        assert record.name in protocols.NAMES

    def test_names_a_class_that_makes_fakes_of_this_protocol(self, record: Protocol) -> None:
        fake = by_protocol(record.name)
        assert fake.protocol == record.name
        assert getattr(notnow, f"Fake{record.name.upper()}") is fake

    def test_names_a_module_with_rules_of_this_protocol(self, record: Protocol) -> None:
        rules = judging.of_protocol(record.name)
        assert bool(rules) == (record.rules is not None)
        assert {rule.protocol for rule in rules} <= {record.name}

    def test_has_the_moments_that_every_protocol_has(self, record: Protocol) -> None:
        assert EVERYWHERE.keys() <= record.moments.keys()

    def test_has_moments_that_are_covered_by_moments_of_its_own(self, record: Protocol) -> None:
        for name, moment in record.moments.items():
            assert moment.within <= record.moments.keys(), name
            assert moment.doc.endswith("."), name

    def test_has_a_type_for_each_fact_of_a_moment_and_no_other(self, record: Protocol) -> None:
        named = CONNECTION_FACTS.union(*(moment.facts for moment in record.moments.values()))
        assert record.facts.keys() == named
        for fact in record.facts.values():
            assert fact.doc.endswith(".")
            assert not fact.decided_at or fact.decided_at in record.moments

    def test_has_faults_that_the_language_knows(self, record: Protocol) -> None:
        from notnow.language.faults import FAULT_KEYS

        assert frozenset().union(*(moment.faults for moment in record.moments.values())) <= frozenset(FAULT_KEYS)

    def test_does_not_count_a_moment_twice(self, record: Protocol) -> None:
        assert record.moments.keys().isdisjoint(record.also_counted)
        assert record.not_commands <= set(record.also_counted)
        assert "any" not in filter(record.is_command, record.not_commands)

    def test_has_one_moment_for_each_verb(self, record: Protocol) -> None:
        verbs = [verb for m in record.moments.values() if "any" in m.within for verb in m.verbs]
        assert sorted(verbs) == sorted(record.by_verb())

    def test_has_keys_and_modes_that_the_language_knows(self, record: Protocol) -> None:
        assert record.server_keys <= Server.KEYS.keys()
        assert record.expect_keys <= Expect.KEYS.keys()
        assert set(record.tls_modes) <= set(TLS_MODES)
        assert record.tls_modes[0] == "none"

    def test_has_an_alias_that_means_no_other_protocol(self, record: Protocol) -> None:
        others = [one for one in protocols.every() if one is not record]
        assert set(record.aliases).isdisjoint(word for one in others for word in (one.name, *one.aliases))

    def test_has_a_sample_for_each_tls_mode(self, record: Protocol) -> None:
        assert set(record.tls_modes) <= record.samples[-1].tls.keys()
        for sample in record.samples:
            for options in sample.tls.values():
                named = {name for _, name, _, _ in string.Formatter().parse(sample.command + options) if name}
                assert named <= {"url", "server", "ca"}


@each
class TestEveryPartKnowsIt:
    @pytest.fixture
    def recorder(self, record: Protocol) -> Recorder:
        return Recorder(ManualClock(), server="here", protocol=record.name)

    def test_the_catalogue_has_its_healthy_scenario(self, record: Protocol) -> None:
        scenario = catalogue.scenario(f"{record.name}/healthy")
        assert scenario.protocol == record.name
        assert list(words.phases(scenario))
        assert all(expected.in_words(scenario, key).endswith(".") for key in expected.keys(scenario))

    def test_the_loader_takes_each_of_its_moments(self, record: Protocol) -> None:
        for name, moment in record.moments.items():
            fault = {"certificate": 'alert = "handshake_failure"'}
            said = "close = true" if "close" in moment.faults else fault["certificate"]
            after = 'after = "5s"\n' if name == "idle" else ""
            text = f'protocol = "{record.name}"\n[[phase]]\n[[phase.rule]]\non = "{name}"\n{after}{said}\n'
            assert [rule.on for rule in loads(text).rules()] == [(name,)], name

    def test_the_loader_reads_each_of_its_facts(self, record: Protocol) -> None:
        for moment in record.moments:
            for name in record.facts_at(moment) - {"header"}:
                kind = facts.kind_at(record.name, name, moment).kind
                value = kind.values[0] if isinstance(kind, Choice) else facts.PRESENT
                assert facts.read(record.name, name, [moment], value) == value

    def test_the_schema_has_it(self, record: Protocol) -> None:
        schema = json_schema()
        assert record.name in str(schema["properties"]["protocol"])
        assert all(f"'{name}'" in str(schema["definitions"]["Rule"]["properties"]["on"]) for name in record.moments)

    def test_a_journal_counts_each_of_its_moments(self, record: Protocol, recorder: Recorder) -> None:
        for name in (*record.moments, *record.also_counted):
            assert recorder.journal.count(name) == 0

    def test_an_empty_run_has_a_finding_for_each_expectation(self, record: Protocol, recorder: Recorder) -> None:
        run = Run([recorder.journal])
        assert delivery.delivered(run, 1).outcome == "broken"
        assert delivery.not_delivered(run).outcome == "held"
        assert delivery.no_duplicates(run).outcome == "held"
        assert all(one.rule.protocol == record.name for one in judging.judge(run))

    def test_a_connection_on_which_nothing_happened_has_a_picture(self, record: Protocol, recorder: Recorder) -> None:
        connection = recorder.open("a", "127.0.0.1", 1)
        recorder.ask(connection, "connect", "", "")
        assert record.words.nothing in render([recorder.journal]) or record.multiplexed
        seen = f"the client never asked for anything: it began no {record.words.unfinished}"
        assert delivery.delivered(Run([recorder.journal]), 1).seen == seen

    def test_serve_has_a_line_to_try_it_by(self, record: Protocol) -> None:
        for mode in record.tls_modes:
            with by_protocol(record.name)(tls=mode) as fake:
                assert fake.url.startswith(f"{record.name}s://" if mode == "implicit" else f"{record.name}://")
                assert str(fake.port) in _lines.try_line(fake)

    def test_pytest_has_its_fixtures(self, record: Protocol) -> None:
        from notnow import pytest_markers, pytest_plugin

        for name in (f"fake_{record.name}", f"fake_{record.name}_module", f"fake_{record.name}_session"):
            assert hasattr(pytest_plugin, name)
            assert pytest_markers.FIXTURES[name] == record.name


def test_a_protocol_that_is_not_in_the_list_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="gopher"):
        protocols.get("gopher")


# Adapters, rules and readings are each of one protocol; the plugin writes three fixtures out for editors.
# What speaks HTTP itself says "http" of an ASGI scope and of a URL.
OF_ONE_PROTOCOL = ("servers/", "conduct/rules/", "conduct/reading/", "protocols/", "pytest_plugin.py",
    "control/client.py", "control/guard.py", "control/openapi.py",
    "chaos/faults/", "chaos/replay/", "chaos/__init__.py")  # fmt: skip


def test_no_other_module_names_a_protocol() -> None:
    """No table, branch or look-up has the name of a protocol in it; the default of an argument may."""
    found = []
    for file in ROOT.rglob("*.py"):
        path = file.relative_to(ROOT).as_posix()
        if path.startswith(OF_ONE_PROTOCOL):
            continue
        nodes = list(ast.walk(ast.parse(file.read_text("utf-8"))))
        arguments = [node for node in nodes if isinstance(node, ast.arguments)]
        defaults = {id(one) for node in arguments for one in (*node.defaults, *node.kw_defaults)}
        names = [node for node in nodes if isinstance(node, ast.Constant) and node.value in protocols.NAMES]
        found += [f"{path}:{node.lineno}: {node.value!r}" for node in names if id(node) not in defaults]
    assert found == []


def test_a_record_imports_nothing_above_it() -> None:
    allowed = {"notnow.protocols", "notnow.errors", "notnow.units"}
    for file in (ROOT / "protocols").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("notnow"):
                assert any((node.module or "").startswith(name) for name in allowed), f"{file.name}: {node.module}"
