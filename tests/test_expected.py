"""What scenarios expect, judged like rules: of one server, and of several between which a client may choose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from conduct_playbook import Play, named
from notnow.conduct import expected
from notnow.conduct.judging import Verdict
from notnow.conduct.reading.run import Run
from notnow.journal import Journal
from notnow.language.grammar import Expect
from notnow.language.loading import loads
from notnow.language.scenario import Scenario

MAIL = ("MAIL FROM:<a@x>", "RCPT TO:<b@y>", "DATA", ". <1@x>", "QUIT", "(leaves)")
NO = "-> !421 no"
DELIVERED = "delivered = { times = 1 }"


def wants(expect: str, protocol: str = "smtp") -> Scenario:
    return loads(f'protocol = "{protocol}"\n[[phase]]\nname = "up"\n[expect]\n{expect}\n', name="test")


@dataclass
class Fake:
    """What is judged of a fake."""

    journal: Journal
    scenario: Scenario
    files: Any = None


def fakes(play: Play, *expect: str) -> list[Fake]:
    """A fake for each server of a playbook, with what its scenario expects."""
    texts = [*expect, *[""] * (len(play.journals) - len(expect))]
    return [Fake(journal, wants(text, play.protocol)) for journal, text in zip(play.journals, texts, strict=True)]


def verdicts(found: Sequence[Fake], **options: Any) -> list[Verdict]:
    return expected.judge(found, Run([one.journal for one in found], [one.scenario for one in found]), **options)


def judged(play: Play, *expect: str) -> dict[str, str]:
    return {verdict.rule.id: verdict.outcome for verdict in verdicts(fakes(play, *expect))}


class TestOneServer:
    def test_each_key_has_a_verdict_of_its_own(self) -> None:
        play = Play("smtp")
        play.connect(*MAIL)
        play.connect(*MAIL)
        expect = "never_exceeded = { connections = 1 }\nno_duplicates = true\ndelivered = { times = 2 }"
        found = judged(play, expect)
        assert found == {
            "expect.delivered": "held", "expect.no-duplicates": "broken", "expect.never-exceeded": "held",
        }  # fmt: skip
        assert list(found) == ["expect.delivered", "expect.no-duplicates", "expect.never-exceeded"]

    def test_a_broken_one_says_why_and_what_proves_it(self) -> None:
        play = Play("smtp")
        play.connect(*MAIL)
        play.connect(*MAIL)
        (verdict,) = verdicts(fakes(play, "no_duplicates = true"))
        assert verdict.finding.why == "expected nothing to be stored twice, but <1@x> to b@y was stored twice"
        assert tuple(map(named, verdict.finding.evidence)) == ("#1 . <1@x>", "#2 . <1@x>")
        assert (verdict.rule.level, verdict.rule.source) == ("must", "[expect] of test")
        assert verdict.rule.title == "It does not resend a message that the server has accepted."

    def test_where_nobody_came_nothing_was_exercised(self) -> None:
        assert judged(Play("smtp"), DELIVERED) == {"expect.delivered": "not exercised"}
        ((fake),) = fakes(Play("smtp"), DELIVERED)
        assert [verdict.outcome for verdict in expected.of_fake(fake)] == ["broken"]

    def test_what_came_before_the_last_play_does_not_count(self) -> None:
        play = Play("smtp")
        play.connect(*MAIL)
        play.recorders[0].mark("play", "again")
        assert judged(play, DELIVERED) == {"expect.delivered": "not exercised"}
        play.connect(*MAIL)
        expect = f"{DELIVERED}\nno_duplicates = true"
        assert judged(play, expect) == {"expect.delivered": "held", "expect.no-duplicates": "held"}

    def test_connections_before_the_last_play_do_not_count(self) -> None:
        play = Play("smtp")
        play.connect()
        play.connect()
        play.recorders[0].mark("play", "again")
        play.connect()
        assert judged(play, "never_exceeded = { connections = 1 }") == {"expect.never-exceeded": "held"}

    @pytest.mark.parametrize(
        ("expect", "words"),
        [
            ("retried = {}", "It tries again."),
            (
                'retried = { times = 2, first_delay = "5s", within = "1m", backoff = "linear" }',
                "It tries again, at least twice, after a first wait of at least 5s, within 1m of the first refusal, "
                "with linear back-off.",
            ),
            ("new_connection_after = { code = 421 }", "After a 421 it tries again on another connection."),
            ("never_exceeded = { connections = 3 }", "It never has more than 3 connections at a time."),
        ],
    )
    def test_its_words(self, expect: str, words: str) -> None:
        play = Play("smtp")
        play.connect(*MAIL)
        (verdict,) = verdicts(fakes(play, expect))
        assert verdict.rule.title == words

    def test_a_key_that_asks_for_nothing(self) -> None:
        play = Play("smtp")
        play.connect(*MAIL)
        assert judged(play, "no_duplicates = false") == {}

    @pytest.mark.parametrize(
        ("expect", "outcome"),
        [
            ("retried = { times = 2 }", "held"),
            ("retried = { times = 3 }", "broken"),
            ('retried = { within = "1m" }', "held"),
            ('retried = { within = "59s" }', "broken"),
            ('retried = { first_delay = "1m" }', "held"),
            ('retried = { first_delay = "61s" }', "broken"),
            ('retried = { backoff = "constant" }', "broken"),
            ("new_connection_after = 421", "held"),
            ("new_connection_after = 450", "broken"),
            ("never_exceeded = { connections = 1 }", "held"),
            ("gave_up = '3m'", "held"),
            ("gave_up = '6m'", "broken"),
        ],
    )
    def test_its_value_is_what_is_expected(self, expect: str, outcome: str) -> None:
        play = Play("smtp")
        play.connect(NO)
        play.wait("1m").connect(NO)
        play.wait("2m").connect(*MAIL)
        assert list(judged(play, expect).values()) == [outcome]

    @pytest.mark.parametrize(
        ("key", "lines", "outcome"),
        [
            ("sni_matches_authority", ("GET a.test/",), "held"),
            ("sni_matches_authority", ("GET b.test/",), "broken"),
            ("not_coalesced", ("GET b.test/",), "held"),
            ("not_coalesced", ("GET a.test/", "GET b.test/"), "broken"),
            ("retry_after_honoured", ("GET a.test/ {retry-after=60} -> !503 no", "(1m)", "GET a.test/"), "held"),
            ("retry_after_honoured", ("GET a.test/ {retry-after=60} -> !503 no", "(59s)", "GET a.test/"), "broken"),
            ("body_replayed", ("PUT a.test/ {body=2} -> !503 no", "PUT a.test/ {body=2}"), "held"),
            ("body_replayed", ("PUT a.test/ {body=2} -> !503 no", "PUT a.test/ {body=0}"), "broken"),
        ],
    )
    def test_requests(self, key: str, lines: tuple[str, ...], outcome: str) -> None:
        play = Play("http")
        play.connect(*lines, sni="a.test")
        assert list(judged(play, f"{key} = true").values()) == [outcome]

    def test_pieces_of_files(self) -> None:
        class Files:
            partial: tuple[str, ...] = ()

            def size(self, _name: str) -> int:
                return 5

        play = Play("ftp")
        play.connect("STOR a {bytes=5} -> 426 cut")
        (fake,) = fakes(play, "no_partial_files = true")
        fake.files = Files()
        assert verdicts([fake])[0].outcome == "held"
        fake.files.partial = ("a",)
        (verdict,) = verdicts([fake])
        assert verdict.finding.why == "expected every file to be whole, but only 5 bytes of a have come"
        assert tuple(map(named, verdict.finding.evidence)) == ("#1 STOR a",)

    @pytest.mark.parametrize(
        ("accepted", "outcomes"),
        [
            ("", ("broken", "broken", "held", "broken")),
            ("lost", ("not exercised", "not exercised", "held", "broken")),
            ("reported", ("not exercised", "not exercised", "held", "broken")),
            ("duplicated", ("not exercised", "broken", "held", "broken")),
            ("false alarm", ("broken", "broken", "held", "broken")),
        ],
    )
    def test_a_result_that_is_accepted_is_not_asked_to_be_another(
        self, accepted: str, outcomes: tuple[str, ...]
    ) -> None:
        play = Play("smtp")
        play.connect(NO)
        expect = f"{DELIVERED}\nretried = {{ times = 1 }}\nno_duplicates = true\ngave_up = '5d'"
        found = expected.judge(fakes(play, expect), Run(play.journals), accepted=accepted)
        keys = ("delivered", "retried", "no-duplicates", "gave-up")
        by_key = {verdict.rule.id.removeprefix("expect."): verdict.outcome for verdict in found}
        assert tuple(by_key[key] for key in keys) == outcomes


class TestSeveralServers:
    def test_what_came_through_on_one_counts_for_all(self) -> None:
        play = Play("smtp", "a", "b")
        play.connect(NO)
        assert judged(play, DELIVERED, DELIVERED) == {"expect.delivered": "broken"}
        play.connect(*MAIL, server=1)
        assert judged(play, DELIVERED, DELIVERED) == {"expect.delivered": "held"}
        assert judged(play, "", DELIVERED) == {"expect.delivered": "held"}
        play.connect(*MAIL, server=1)
        assert judged(play, DELIVERED, DELIVERED) == {"expect.delivered": "broken"}
        assert judged(play, "no_duplicates = true") == {"expect.no-duplicates": "broken"}

    def test_what_came_through_twice_may_have_come_to_both(self) -> None:
        play = Play("smtp", "a", "b")
        play.connect(*MAIL)
        play.connect(*MAIL, server=1)
        assert judged(play, "no_duplicates = true") == {"expect.no-duplicates": "broken"}
        assert len(verdicts(fakes(play, "no_duplicates = true", "no_duplicates = true"))) == 1

    def test_each_server_has_its_own_cap(self) -> None:
        play = Play("smtp", "a", "b")
        play.connect()
        play.connect(server=1)
        cap = "never_exceeded = { connections = 1 }"
        assert [verdict.outcome for verdict in verdicts(fakes(play, cap, cap))] == ["held", "held"]

    @pytest.mark.parametrize("expect", ["retried = { times = 1 }", "gave_up = '5d'"])
    def test_a_client_that_falls_back_need_not_come_back(self, expect: str) -> None:
        play = Play("smtp", "a", "b")
        play.connect(*MAIL, server=1)
        play.connect(NO)
        assert list(judged(play, expect).values()) == ["broken"]
        play.connect(*MAIL, server=1)
        assert list(judged(play, expect).values()) == ["not exercised"]
        play.wait("5d").connect(NO)
        assert list(judged(play, expect).values()) == ["held"]

    def test_a_client_that_was_not_refused_has_not_fallen_back(self) -> None:
        play = Play("smtp", "a", "b")
        play.connect(*MAIL)
        play.connect(*MAIL, server=1)
        assert judged(play, "retried = { times = 1 }") == {"expect.retried": "broken"}

    def test_servers_of_another_protocol_are_judged_apart(self) -> None:
        mail, files = Play("smtp"), Play("ftp")
        mail.connect(*MAIL)
        files.connect("RETR a -> 426 cut")
        both = [*fakes(files, DELIVERED), *fakes(mail, DELIVERED)]
        assert [verdict.outcome for verdict in verdicts(both)] == ["broken", "held"]


def test_every_key_has_words_and_a_judge() -> None:
    assert set(expected._KEYS) == set(Expect.KEYS)
