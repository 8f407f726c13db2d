"""The ledger of an SMTP run: which try was of which message to whom, and what became of it."""

from __future__ import annotations

import pytest

from conduct_playbook import Play, named
from notnow.conduct.reading.ledger import Ledger, Try
from notnow.conduct.reading.smtp.letter import Letter
from notnow.journal import CertificateRejected

MAIL, B, C = "MAIL FROM:<a@x>", "RCPT TO:<b@y>", "RCPT TO:<c@y>"
END = ("DATA", ". <1@x>")
BUSY = "-> !421 4.3.2 busy"


@pytest.fixture
def play() -> Play:
    return Play("smtp")


def states(play: Play) -> dict[str, str]:
    return {item.name: item.state for item in play.run.ledger.items}


def endings(play: Play) -> dict[str, list[str]]:
    """How each try of each item ended, with the number of its connection."""
    return {item.name: [_in_words(one) for one in item.tries] for item in play.run.ledger.items}


def _in_words(one: Try) -> str:
    return f"#{one.connection.number} {one.ending}"


def unnamed(play: Play) -> dict[str, list[str]]:
    """The tries that belong to no item for certain, and the items that they may belong to."""
    return {_in_words(one): [item.name for item in one.owners] for one in play.run.ledger.nameless}


def doubts(play: Play) -> list[str]:
    return [doubt.why for doubt in play.run.ledger.doubts]


class TestMessages:
    def test_each_recipient_of_a_message_is_an_item(self, play: Play) -> None:
        play.connect(MAIL, B, C, *END)
        assert states(play) == {"<1@x> to b@y": "delivered", "<1@x> to c@y": "delivered"}

    def test_a_transaction_for_each_recipient(self, play: Play) -> None:
        play.connect(MAIL, B, *END, MAIL, C, *END)
        assert states(play) == {"<1@x> to b@y": "delivered", "<1@x> to c@y": "delivered"}

    def test_they_are_in_the_order_in_which_the_client_named_them(self, play: Play) -> None:
        first = play.connect("EHLO x")
        play.connect(MAIL, B, *END)
        first.says(MAIL, C, "DATA", ". <2@x>")
        assert list(states(play)) == ["<1@x> to b@y", "<2@x> to c@y"]

    def test_a_second_copy(self, play: Play) -> None:
        play.connect(MAIL, B, *END)
        play.connect(MAIL, B, *END)
        assert states(play) == {"<1@x> to b@y": "duplicated"}

    def test_the_same_message_id_is_the_same_message_whatever_its_content(self, play: Play) -> None:
        for sha256 in ("1", "2"):
            play.connect(MAIL, B, "DATA", f". <1@x> {{sha256={sha256}}}")
        assert states(play) == {"<1@x> to b@y": "duplicated"}

    def test_without_a_message_id_the_content_tells_messages_apart(self, play: Play) -> None:
        for sha256 in ("11", "22", "11"):
            play.connect(MAIL, B, "DATA", f". {{message_id=none, sha256={sha256}}}")
        assert states(play) == {"sha256:11 to b@y": "duplicated", "sha256:22 to b@y": "delivered"}

    def test_a_message_that_was_answered_250_and_then_421_is_accepted(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> -> !250 ok | 421 bye")
        assert endings(play) == {"<1@x> to b@y": ["#1 accepted"]}

    @pytest.mark.parametrize(("reply", "state"), [("!250 ok | 421 bye", "in doubt"), ("250 ok", "missing")])
    def test_an_envelope_that_comes_again_after_a_421_may_be_of_the_same_message(
        self, play: Play, reply: str, state: str
    ) -> None:
        play.connect(MAIL, B, "DATA", f". <1@x> -> {reply}").play.wait("1m")
        play.connect(MAIL, B, "DATA -> !451 later")
        assert states(play) == {"<1@x> to b@y": "delivered", "mail from a@x to b@y": state}

    def test_a_message_that_was_kept_though_it_was_refused(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> {stored=true} -> !451 no").play.wait("1m")
        play.connect(MAIL, B, *END)
        (item,) = play.run.ledger.items
        assert ([one.ending for one in item.copies], item.state) == (["deferred", "accepted"], "delivered")

    def test_a_message_refused_at_the_dot_is_known_by_what_it_was(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> -> !451 no").play.wait("1m")
        play.connect(MAIL, B, "DATA", ". <2@x>")
        assert states(play) == {"<1@x> to b@y": "missing", "<2@x> to b@y": "delivered"}

    def test_a_client_that_leaves_before_the_reply_to_the_dot(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> {stored=true} -> …").leaving().says("(leaves)")
        assert endings(play) == {"<1@x> to b@y": ["#1 unanswered"]}
        assert states(play) == {"<1@x> to b@y": "delivered"}

    def test_a_transaction_that_is_under_way_is_in_doubt(self, play: Play) -> None:
        line = play.connect(MAIL, B)
        assert states(play) == {"mail from a@x to b@y": "in doubt"}
        line.says("(leaves)")
        assert endings(play) == {"mail from a@x to b@y": ["#1 abandoned"]}
        assert states(play) == {"mail from a@x to b@y": "in doubt"}

    @pytest.mark.parametrize(
        ("lines", "state"),
        [
            ((B, "RSET"), "in doubt"),
            ((B, "DATA", "(leaves)"), "missing"),
            ((B, "RCPT TO:<c@y> -> !451 no", "RSET"), "missing"),
        ],
    )
    def test_mail_that_the_client_takes_back_may_have_been_a_question(
        self, play: Play, lines: tuple[str, ...], state: str
    ) -> None:
        """As servers verify a sender by asking its own server, up to RCPT."""
        play.connect(MAIL, *lines)
        assert states(play)["mail from a@x to b@y"] == state

    @pytest.mark.parametrize(("rejected", "state"), [(True, "refused"), (False, "in doubt")])
    def test_a_client_that_rejects_a_bad_certificate_keeps_its_mail_back(
        self, play: Play, rejected: bool, state: str
    ) -> None:
        line = play.connect(MAIL, B, version="TLSv1.3", certificate="bad", defects=("expired",))
        if rejected:
            line.fails(CertificateRejected("certificate_expired"))
        else:
            line.says("(leaves)")
        assert states(play) == {"mail from a@x to b@y": state}

    def test_what_a_close_cut_off_ended_with_it(self, play: Play) -> None:
        play.connect(MAIL, B, "(1m)", "(closes)").play.wait("2m")
        play.connect(MAIL, B, *END)
        assert [one.delay for one in play.run.ledger.items[0].tries] == [0, 120]


class TestRecipients:
    @pytest.mark.parametrize(
        ("reply", "ending", "state"),
        [
            ("!450 no", "deferred", "missing"),
            ("!552 full", "deferred", "missing"),
            ("!550 no", "refused", "refused"),
            ("550 no", "refused", "refused"),
        ],
    )
    def test_a_recipient_that_was_refused(self, play: Play, reply: str, ending: str, state: str) -> None:
        play.connect(MAIL, B, f"{C} -> {reply}", *END)
        assert endings(play)["<1@x> to c@y"] == [f"#1 {ending}"]
        assert states(play) == {"<1@x> to b@y": "delivered", "<1@x> to c@y": state}

    def test_one_that_came_later(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !450 no", *END).play.wait("30m")
        play.connect(MAIL, C, *END)
        assert states(play) == {"<1@x> to b@y": "delivered", "<1@x> to c@y": "delivered"}

    def test_one_that_was_asked_for_again_in_the_same_transaction(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !452 many", "(2s)", C, *END)
        last = play.run.ledger.items[1].tries[1]
        assert (named(last.began), last.delay, last.ending) == (f"#1 {C}", 2.0, "accepted")

    def test_a_421_to_rcpt_is_of_all_recipients(self, play: Play) -> None:
        play.connect(MAIL, B, f"{C} -> !421 no").play.wait("30m")
        play.connect(MAIL, B, C, *END)
        assert endings(play) == {name: ["#1 deferred", "#2 accepted"] for name in ("<1@x> to b@y", "<1@x> to c@y")}

    def test_those_that_came_with_a_refused_mail_are_named(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !450 no", f"{B} -> 503 need MAIL", "QUIT")
        assert endings(play) == {"mail from a@x to b@y": ["#1 deferred"]}

    def test_no_message_went_to_those_that_nobody_asked_for_again(self, play: Play) -> None:
        play.connect(MAIL, B, C, "DATA -> !451 no", "QUIT").play.wait("30m")
        play.connect(MAIL, B, *END)
        assert states(play) == {"mail from a@x to c@y": "missing", "<1@x> to b@y": "delivered"}
        assert unnamed(play) == {"#1 deferred": ["<1@x> to b@y"]}


class TestEnvelopes:
    def test_the_envelope_stands_for_the_only_message_that_has_it(self, play: Play) -> None:
        for gap in ("1m", "2m"):
            play.connect(MAIL, f"{B} -> !451 no").play.wait(gap)
        play.connect(MAIL, B, *END)
        assert endings(play) == {"<1@x> to b@y": ["#1 deferred", "#2 deferred", "#3 accepted"]}
        assert [one.delay for one in play.run.ledger.items[0].tries] == [0, 60, 120]

    def test_the_sender_does_too(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !421 no").play.wait("1m")
        play.connect(MAIL, B, C, *END)
        assert endings(play) == {name: ["#1 deferred", "#2 accepted"] for name in ("<1@x> to b@y", "<1@x> to c@y")}

    def test_where_several_messages_have_it_nobody_can_tell(self, play: Play) -> None:
        play.connect(MAIL, B, *END)
        play.connect(MAIL, "RCPT TO:<b@y> -> !421 no")
        play.connect(MAIL, B, "DATA", ". <3@x>")
        assert states(play) == {"<1@x> to b@y": "delivered", "<3@x> to b@y": "delivered"}
        assert unnamed(play) == {"#2 deferred": ["<3@x> to b@y"]}
        assert doubts(play) == ["1 try may have been of other mail with the same envelope"]

    def test_nor_where_only_the_sender_is_known_and_several_messages_are_his(self, play: Play) -> None:
        play.connect(MAIL, B, *END)
        play.connect(f"{MAIL} -> !421 no")
        play.connect(MAIL, C, "DATA", ". <3@x>")
        assert unnamed(play) == {"#2 deferred": ["<3@x> to c@y"]}
        assert len(doubts(play)) == 1

    def test_mail_that_was_accepted_before_is_not_tried_again(self, play: Play) -> None:
        play.connect(MAIL, B, *END)
        play.connect(MAIL, f"{B} -> !421 no")
        assert states(play) == {"<1@x> to b@y": "delivered", "mail from a@x to b@y": "missing"}

    def test_a_sender_of_nothing_else_is_an_item(self, play: Play) -> None:
        for n in range(40):
            line = f"MAIL FROM:<s{n}@x>"
            play.connect(*([line, B, "DATA", f". <{n}@x>"] if n < 2 else [f"{line} -> !421 no"]))
        assert list(states(play).values()) == ["delivered"] * 2 + ["missing"] * 38
        assert not doubts(play)

    def test_tries_at_the_same_time_are_of_different_mail(self, play: Play) -> None:
        lines = [play.connect(MAIL, B) for _ in range(2)]
        for line in lines:
            line.says("DATA -> !421 no")
        assert [item.state for item in play.run.ledger.items] == ["missing", "missing"]

    def test_two_clients_have_their_own_envelopes(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !421 no")
        play.connect(MAIL, B, *END, client="192.0.2.2")
        assert states(play) == {"mail from a@x to b@y": "missing", "<1@x> to b@y": "delivered"}


class TestAfterTheClose:
    def test_mail_that_was_begun_on_a_connection_closed_for_being_idle(self, play: Play) -> None:
        play.connect(MAIL, B, *END, "[idle] -> !421 timeout", MAIL, C)
        assert endings(play) == {"<1@x> to b@y": ["#1 accepted"], "mail from a@x to c@y": ["#1 unanswered"]}
        assert states(play)["mail from a@x to c@y"] == "missing"

    def test_mail_that_came_again_on_a_new_one(self, play: Play) -> None:
        play.connect(MAIL, B, *END, "[idle] -> !421 timeout", MAIL, C)
        play.connect(MAIL, C, "DATA", ". <2@x>")
        assert endings(play)["<2@x> to c@y"] == ["#1 unanswered", "#2 accepted"]

    def test_the_same_envelope_again_is_other_mail(self, play: Play) -> None:
        play.connect(MAIL, B, *END, "[idle] -> !421 timeout", MAIL, B)
        assert states(play) == {"<1@x> to b@y": "delivered", "mail from a@x to b@y": "missing"}

    def test_a_sender_named_after_a_refusal_is_that_of_the_connection(self, play: Play) -> None:
        play.connect("EHLO x", "STARTTLS -> !421 no", MAIL)
        assert endings(play) == {"mail from a@x": ["#1 deferred"]}

    def test_recipients_named_after_a_refused_mail_are_those_of_the_mail(self, play: Play) -> None:
        play.connect(f"{MAIL} -> !421 no", B, "DATA")
        assert endings(play) == {"mail from a@x to b@y": ["#1 deferred"]}


class TestConnectionsWithoutMail:
    def test_they_are_of_the_only_message_of_their_client(self, play: Play) -> None:
        for gap in ("3.6s", "1m"):
            play.connect(BUSY).play.wait(gap)
        play.connect(MAIL, B, *END)
        assert endings(play) == {"<1@x> to b@y": ["#1 deferred", "#2 deferred", "#3 accepted"]}
        assert not doubts(play)

    def test_one_that_came_back_at_once_may_have_been_for_other_mail(self, play: Play) -> None:
        for gap in ("3ms", "1m"):
            play.connect(BUSY).play.wait(gap)
        play.connect(MAIL, B, *END)
        assert unnamed(play) == {"#1 deferred": ["<1@x> to b@y"], "#2 deferred": ["<1@x> to b@y"]}
        assert doubts(play) == ["1 connection refused before MAIL may have been for mail that never came again"]

    def test_those_of_a_batch_are_of_any_of_its_messages(self, play: Play) -> None:
        for _ in range(2):
            play.connect(BUSY)
        play.wait("30m")
        for n in range(2):
            play.connect(MAIL, B, "DATA", f". <{n}@x>")
        both = ["<0@x> to b@y", "<1@x> to b@y"]
        assert unnamed(play) == {"#1 deferred": both, "#2 deferred": both}
        assert not doubts(play)

    def test_a_batch_of_which_less_came_again_leaves_a_doubt(self, play: Play) -> None:
        for _ in range(3):
            play.connect(BUSY)
        play.wait("30m")
        for n in range(2):
            play.connect(MAIL, B, "DATA", f". <{n}@x>")
        assert doubts(play) == ["1 connection refused before MAIL may have been for mail that never came again"]

    def test_one_after_all_mail_was_accepted_leaves_a_doubt(self, play: Play) -> None:
        play.connect(MAIL, B, *END).play.wait("1m")
        play.connect(BUSY)
        assert states(play) == {"<1@x> to b@y": "delivered"}
        assert doubts(play) == ["1 connection refused before MAIL may have been for mail that never came again"]

    def test_a_client_that_never_named_any_mail_had_some(self, play: Play) -> None:
        for gap in ("1m", "3ms", "1m"):
            play.connect(BUSY).play.wait(gap)
        assert endings(play) == {"the mail behind #1": ["#1 deferred"]}
        assert states(play) == {"the mail behind #1": "missing"}
        assert set(unnamed(play)) == {"#2 deferred", "#3 deferred"}

    def test_as_much_as_it_had_connections_side_by_side(self, play: Play) -> None:
        lines = [play.connect() for _ in range(3)]
        for line in lines:
            line.says("EHLO x -> !421 no")
        assert list(states(play)) == ["the mail behind #1", "the mail behind #2", "the mail behind #3"]

    def test_the_last_one_is_of_the_only_message_too(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !451 no").play.wait("1m")
        play.connect(BUSY)
        assert endings(play) == {"mail from a@x to b@y": ["#1 deferred", "#2 deferred"]}

    LOST = "refused before MAIL may have been for mail that never came again"

    @pytest.mark.parametrize(("messages", "lost"), [(1, "2 connections "), (2, "1 connection "), (3, "")])
    def test_messages_at_another_server_at_once_carried_as_many(self, messages: int, lost: str) -> None:
        play = Play("smtp", "primary", "backup")
        for _ in range(3):
            play.connect(BUSY)
        for n in range(messages):
            play.connect(MAIL, B, "DATA", f". <{n}@x>", server=1)
        assert doubts(play) == ([f"{lost}{self.LOST}"] if lost else [])

    def test_messages_at_the_same_server_at_once_are_other_mail(self, play: Play) -> None:
        for _ in range(3):
            play.connect(BUSY)
        for n in range(2):
            play.connect(MAIL, B, "DATA", f". <{n}@x>")
        assert doubts(play) == [f"3 connections {self.LOST}"]

    def test_one_refused_for_good(self, play: Play) -> None:
        play.connect("-> !554 go away")
        assert states(play) == {"the mail behind #1": "refused"}

    def test_another_server_at_once(self) -> None:
        play = Play("smtp", "primary", "backup")
        play.connect(BUSY)
        play.connect(MAIL, B, *END, server=1)
        assert endings(play) == {"<1@x> to b@y": ["#1 deferred", "#1 accepted"]}

    @pytest.mark.parametrize("lines", [("EHLO x", "QUIT"), ("EHLO x", "[idle] -> !421 timeout"), ("QUIT -> !421 no",)])
    def test_one_that_was_not_refused_had_none(self, play: Play, lines: tuple[str, ...]) -> None:
        play.connect(*lines)
        ledger: Ledger = play.run.ledger
        assert (ledger.items, ledger.nameless, ledger.doubts) == ([], [], [])


class TestWhatTheEnvelopeCannotTell:
    def test_a_message_to_more_recipients_is_other_mail(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA -> !451 no", "QUIT")
        play.connect(MAIL, B, C, *END)
        assert unnamed(play) == {"#1 deferred": ["<1@x> to b@y"]}
        assert len(doubts(play)) == 1

    def test_unless_the_first_try_was_cut_before_it_had_named_them(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !421 no").play.wait("1m")
        play.connect(MAIL, B, C, *END)
        assert endings(play)["<1@x> to b@y"] == ["#1 deferred", "#2 accepted"]

    def test_a_client_with_a_transaction_for_each_recipient_may_have_dropped_one(self, play: Play) -> None:
        play.connect(MAIL, "RCPT TO:<d@y>", "DATA", ". <0@x>", MAIL, f"{C} -> !451 no", "RSET")
        play.connect(MAIL, B, *END, MAIL, C, *END)
        assert unnamed(play) == {"#1 deferred": ["<1@x> to c@y"]}

    def test_what_was_refused_for_good_may_be_what_was_refused_for_now(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> -> !451 no").play.wait("1m")
        play.connect(MAIL, B, "DATA", ". <2@x>")
        play.connect(MAIL, f"{B} -> !550 no", "QUIT")
        assert states(play) == {"<1@x> to b@y": "in doubt", "<2@x> to b@y": "delivered"}

    def test_a_421_that_the_server_does_not_mean(self, play: Play) -> None:
        play.connect(MAIL, f"{B} -> !421 no (stays)", C, *END)
        assert endings(play) == {"<1@x> to b@y": ["#1 deferred"], "<1@x> to c@y": ["#1 accepted"]}

    def test_one_that_the_client_takes_at_its_word(self, play: Play) -> None:
        play.connect(MAIL, C, f"{B} -> !421 no (stays)", "QUIT")
        assert endings(play) == {f"mail from a@x to {to}": ["#1 deferred"] for to in ("c@y", "b@y")}

    def test_a_refused_message_may_come_again_under_another_name(self, play: Play) -> None:
        play.connect(MAIL, B, "DATA", ". <1@x> {text_sha256=abc} -> !451 no").play.wait("1m")
        play.connect(MAIL, B, "DATA", ". <2@x> {text_sha256=abc}")
        assert states(play) == {"<1@x> to b@y": "in doubt", "<2@x> to b@y": "delivered"}

    def test_recipients_of_several_messages_name_none(self, play: Play) -> None:
        play.connect(MAIL, B, *END)
        play.connect(MAIL, B, f"{C} -> !421 no").play.wait("1m")
        play.connect(MAIL, C, "DATA", ". <2@x>")
        assert unnamed(play) == {"#2 deferred": ["<2@x> to c@y"]}


class TestWithOneEnvelope:
    """Mail of which the server sees nothing but one envelope, side by side."""

    def test_a_later_try_is_of_the_first_that_had_ended_wherever_the_others_are(self, play: Play) -> None:
        first, second = play.connect(MAIL, B), play.connect(MAIL, B)
        third = play.connect(MAIL, B)
        second.says(f"DATA {BUSY}")
        first.says(f"DATA {BUSY}")
        play.connect(MAIL, B, "(leaves)")
        third.says("(leaves)")
        tries = [[_in_words(one) for one in item.tries] for item in play.run.ledger.items]
        assert tries == [["#1 deferred", "#4 abandoned"], ["#2 deferred"], ["#3 abandoned"]]

    def test_many_are_not_looked_through_for_each_try(self, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
        looked = 0
        overlaps = Letter.overlaps

        def counted(letter: Letter, start: int, end: float) -> bool:
            nonlocal looked
            looked += 1
            return overlaps(letter, start, end)

        monkeypatch.setattr(Letter, "overlaps", counted)
        for _ in range(200):
            play.connect(MAIL, B)
        assert (len(play.run.ledger.items), looked) == (200, 0)
