"""All rules of conduct together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conduct_playbook import Play
from notnow import ManualClock
from notnow.conduct.finding import broken, held
from notnow.conduct.judging import UnknownRuleError, all_rules, judge, of_protocol, select
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import Rule, rule, up_to
from notnow.journal import Recorder
from notnow.protocols import NAMES

PLAYBOOKS = Path(__file__).parent.glob("test_rules_*.py")


def test_every_rule_has_a_playbook() -> None:
    named = {rule for path in PLAYBOOKS for rule in re.findall(r'"((?:smtp|ftp|http)\.[\w-]+)"', path.read_text())}
    assert {rule.id for rule in all_rules()} <= named


def test_a_rule_is_found_once_in_the_folder_of_its_protocol() -> None:
    ids = [rule.id for rule in all_rules()]
    assert len(ids) == len(set(ids)) == 65
    for protocol in NAMES:
        assert all(rule.protocol == protocol for rule in of_protocol(protocol))


def test_rules_are_chosen_by_id_and_by_pattern_each_once() -> None:
    chosen = select(["smtp.jitter", "smtp.*"])
    assert chosen[0].id == "smtp.jitter"
    assert sorted(rule.id for rule in chosen) == sorted(rule.id for rule in of_protocol("smtp"))


def test_a_pattern_that_matches_nothing_is_an_error() -> None:
    with pytest.raises(UnknownRuleError, match="smtp.jitter"):
        select(["smtp.jiter"])


def test_the_rules_of_the_protocols_that_took_part_are_judged() -> None:
    play = Play("ftp")
    play.connect()
    verdicts = judge(Run(play.journals))
    assert [verdict.rule for verdict in verdicts] == list(of_protocol("ftp"))
    assert {verdict.outcome for verdict in verdicts} == {"not exercised"}


def test_a_rule_reads_the_journals_of_its_own_protocol() -> None:
    smtp, ftp = Play("smtp"), Play("ftp")
    smtp.connect("-> !421 no")
    ftp.connect("-> !421 no", "USER ann")
    journals = [*smtp.journals, *ftp.journals]
    (verdict,) = judge(Run(journals), select(["ftp.refused-greeting"]))
    assert (verdict.outcome, verdict.finding.why) == ("broken", "USER came after 421")
    (verdict,) = judge(Run(journals), select(["smtp.nothing-but-quit"]))
    assert (verdict.outcome, verdict.finding.why) == ("held", "told 421 once, and nothing after it but QUIT")


def test_what_came_before_the_last_play_is_not_judged() -> None:
    play = Play("ftp")
    play.connect("-> !421 no", "USER ann")
    play.recorders[0].mark("play", "ftp/healthy")
    play.not_exercised("ftp.refused-greeting")


def test_levels() -> None:
    assert up_to("must") == ("must",)
    assert up_to("advice") == ("must", "should", "advice")
    with pytest.raises(ValueError, match=r"level is 'most'; allowed: must, should, advice"):
        up_to("most")


def test_a_journal_that_dropped_exchanges_is_not_judged_as_if_it_were_whole() -> None:
    """What was held in the part that is left may have been broken in the part that is gone; what was broken stays so."""
    clock = ManualClock()
    recorder = Recorder(clock, server="smtp", protocol="smtp", limit=3)
    connection = recorder.open("c1", "192.0.2.1", 1)
    for _ in range(4):
        recorder.answer(recorder.ask(connection, "noop", "NOOP", "one"), "250 ok")
    rules = [
        Rule("smtp.kept", "t", "must", "s", "w", "p", "e", lambda _: held("it did")),
        Rule("smtp.lax", "t", "must", "s", "w", "p", "e", lambda run: broken("it did", run.exchanges[0])),
    ]
    kept, lax = judge(Run([recorder.journal]), rules)
    assert (kept.outcome, lax.outcome) == ("inconclusive", "broken")
    assert kept.finding.why == "the journal dropped 1 exchange, so it does not show the whole run"


_TEXTS = {"title": "t", "source": "s", "why": "w", "proof": "p", "example": "e"}


def test_what_a_client_reported_gives_way_where_that_is_accepted() -> None:
    rules = [
        rule("smtp.duty", "should", **_TEXTS, may_report=True)(lambda run: broken("it", run.exchanges[0])),
        rule("smtp.other", "should", **_TEXTS)(lambda run: broken("it", run.exchanges[0])),
    ]
    play = Play("smtp")
    play.connect("NOOP")
    assert [one.outcome for one in judge(play.run, rules)] == ["broken", "broken"]
    assert [one.outcome for one in judge(play.run, rules, accepted="reported")] == ["not exercised", "broken"]
    assert [one.outcome for one in judge(play.run, rules, accepted="lost")] == ["broken", "broken"]
