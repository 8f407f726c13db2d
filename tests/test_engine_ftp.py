"""The engine, by playbooks, where FTP has more to it: broader moments, data connections, what is in progress."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from notnow import protocols
from notnow.engine.steps import ABORTED
from playbook import (
    BYE,
    NO,
    SILENT,
    SORRY,
    Answered,
    Asked,
    Close,
    Closed,
    EndData,
    Ended,
    Hang,
    Heard,
    Known,
    Leaving,
    Opened,
    Playbook,
    Playing,
    Proceed,
    Reached,
    Send,
    Tick,
    To,
    Wait,
    Watch,
    document,
    fired,
    phase,
    playing,
    rule,
)

VERBS = ("retr", "stor", "appe", "stou", "list", "nlst", "mlsd")


@pytest.fixture
def play() -> Iterator[Playing]:
    with playing() as made:
        yield made


def ftp(*parts: dict[str, Any], **top: Any) -> str:
    return document(*parts, protocol="ftp", **top)


def transfer(conn: str, verb: str = "retr", path: str = "/a", mode: str | None = "passive") -> Any:
    return Asked(conn, verb, command=verb.upper(), path=path, mode=mode)


class TestBroaderMoments:
    def test_transfer_covers_every_verb_that_needs_a_data_connection(self, play):
        book = play(ftp(rule("transfer", reply="450 busy"))) >> Opened("a") << Proceed()
        for verb in VERBS:
            book >> transfer("a", verb) << EndData() << Send("450 busy")
        for verb in ("cwd", "pasv", "size", "stat", "abor", "unknown"):
            book >> Asked("a", verb) << Proceed()

    def test_the_table(self):
        assert {name for name in protocols.get("ftp").moments if "transfer" in protocols.get("ftp").covering(name)} == {
            *VERBS,
            "transfer",
        }
        assert all(protocols.get("ftp").moments[verb].lasts for verb in (*VERBS, "transfer"))

    def test_any_covers_them_too_and_what_has_no_moment(self, play):
        book = play(ftp(rule("any", reply="450 no"))) >> Opened("a") << Proceed()
        for verb in ("user", "pass", *VERBS, "unknown", "bogus"):
            book >> Asked("a", verb, command=verb.upper())
            assert book.scripts[0].steps[-1] == Send("450 no")
            book.skip()
        book >> Asked("a", "login", user="ann") << Proceed()

    def test_the_first_that_matches_wins_be_it_broader_or_not(self, play):
        rules = [rule("retr", reply="450 retr"), rule("transfer", reply="450 transfer"), rule("any", reply="450 any")]
        book = play(ftp(*rules)) >> Opened("a") << Proceed()
        (
            book
            >> transfer("a")
            << EndData()
            << Send("450 retr")
            >> transfer("a", "stor")
            << EndData()
            << Send("450 transfer")
        )
        book >> Asked("a", "cwd") << Send("450 any")
        book = play(ftp(*reversed(rules))) >> Opened("a") << Proceed()
        book >> transfer("a") << EndData() << Send("450 any")

    def test_one_verb_is_not_another(self, play):
        book = play(ftp(rule(["retr", "list"], reply="450 no"))) >> Opened("a") << Proceed()
        assert fired(book, *(transfer("a", verb) for verb in VERBS)) == [True, False, False, False, True, False, False]

    def test_each_counts_for_the_broader_rule_and_for_its_own(self, play):
        rules = [rule("transfer", nth=3, reply="450 third"), rule("stor", nth=2, reply="450 second")]
        book = play(ftp(*rules)) >> Opened("a") << Proceed()
        verbs = ["stor", "retr", "stor", "stor", "list"]
        told = [(book >> transfer("a", verb)).scripts[0].rule for verb in verbs if book.skip()]
        assert told == [None, None, "phase[0].rule[0]", None, None]
        book.skip()


class TestDecidedLater:
    @pytest.mark.parametrize("on", ["retr", ["retr", "list"], ["retr", "complete"]])
    def test_a_fact_of_the_data_connection_has_the_rule_decided_when_it_opens(self, play, on):
        book = play(ftp(rule(on, where={"resumed": False}, reply=NO))) >> Opened("a") << Proceed()
        book >> transfer("a") << Proceed() >> Asked("a", "data", command="RETR", resumed=True) << Proceed()
        book >> Asked("a", "data", command="RETR", resumed=False) << EndData("fin", keep=True) << SORRY

    def test_so_has_a_rule_beside_one_that_stays_where_it_is(self, play):
        rules = [rule("retr", where={"resumed": False}, reply=NO), rule("noop", reply="200 still here")]
        book = play(ftp(*rules)) >> Opened("a") << Proceed() >> Asked("a", "noop") << Proceed("200 still here")
        book >> transfer("a") << Proceed()
        book >> Asked("a", "data", command="RETR", resumed=False) << EndData("fin", keep=True) << SORRY

    def test_of_the_commands_that_it_names(self, play):
        book = play(ftp(rule(["retr", "list"], where={"resumed": False}, reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "data", command="STOR", resumed=False) << Proceed()
        book >> Asked("a", "data", command="LIST", resumed=False) << EndData() << SORRY


class TestOrderOfSteps:
    """How a fault compiles: what is waited for, what ends the data connection, what is said, what closes."""

    AT_ONCE: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "refused": ({"reply": NO}, [EndData(), SORRY]),
        "refused and closed": ({"reply": BYE}, [EndData(), Send(BYE), Close()]),
        "a close": ({"close": True}, [EndData(), Close()]),
        "a reset": ({"close": "reset"}, [EndData(), Close("reset")]),
        "a 421 that stays": ({"reply": BYE, "close": False}, [EndData(), Send(BYE)]),
        "refused after a while": (
            {"reply": NO, "delay": "2s", "drip": "1s"},
            [Wait(2.0), EndData(), Send(NO, drip=1.0)],
        ),
        "ended by itself": ({"data": "reset"}, [EndData("reset"), Send(*ABORTED)]),
        "ended and refused": ({"data": "drain", "reply": NO}, [EndData("drain"), SORRY]),
        "ended and closed": ({"data": "fin", "close": True}, [EndData("fin"), Close()]),
        "ended and slow": (
            {"data": "fin", "delay": "2s", "drip": "1s"},
            [Wait(2.0), EndData("fin"), Send(*ABORTED, drip=1.0)],
        ),
        "stalled": ({"stall": True}, [Hang()]),
        "delayed": ({"delay": "2s"}, [Wait(2.0), Proceed()]),
        "dripping": ({"drip": "1s"}, [Proceed(drip=1.0)]),
        "in other words": ({"reply": "226 mine"}, [Proceed("226 mine")]),
        "kept and refused": ({"reply": NO, "keep": True}, [Proceed(NO)]),
        "kept and closed": ({"reply": BYE, "keep": True}, [Proceed(BYE), Close()]),
        "kept and left": ({"close": True, "keep": True}, [SILENT, Close()]),
        "a lie": ({"reply": "226 sure", "keep": False}, [EndData(keep=False), Send("226 sure")]),
        "an exception": ({}, [Proceed()]),
    }

    @pytest.mark.parametrize("on", ["transfer", "retr", "stor"])
    @pytest.mark.parametrize("case", AT_ONCE)
    def test_at_the_command(self, play, case, on):
        fault, steps = self.AT_ONCE[case]
        book = (
            play(ftp(rule(on, **fault)))
            >> Opened("a")
            << Proceed()
            >> transfer("a", "stor" if on == "transfer" else on)
        )
        for step in steps:
            book << step

    LATER: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "refused": ({"reply": NO}, [EndData(), SORRY]),
        "closed": ({"reply": BYE}, [EndData(), Send(BYE), Close()]),
        "a close": ({"close": "abrupt"}, [EndData(), Close("abrupt")]),
        "ended": ({"data": "reset"}, [EndData("reset"), Send(*ABORTED)]),
        "ended and told": ({"data": "drain", "reply": NO}, [EndData("drain"), SORRY]),
        "told it is whole": ({"reply": "226 sure"}, [EndData(), Send("226 sure")]),
        "taken back": ({"reply": NO, "keep": False}, [EndData(keep=False), SORRY]),
        "kept": ({"reply": NO, "keep": True}, [EndData(), SORRY]),
        "stalled": ({"stall": True}, [Hang()]),
        "slow": ({"reply": NO, "delay": "2s", "drip": "1s"}, [Wait(2.0), EndData(), Send(NO, drip=1.0)]),
    }

    AT_THE_END: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "refused": ({"reply": NO}, [EndData(keep=False), SORRY]),
        "refused and kept": ({"reply": NO, "keep": True}, [Proceed(NO)]),
        "a lie": ({"reply": "226 sure", "keep": False}, [EndData(keep=False), Send("226 sure")]),
    }

    @pytest.mark.parametrize("case", AT_THE_END)
    def test_once_the_whole_transfer_has_passed(self, play, case):
        fault, steps = self.AT_THE_END[case]
        book = play(ftp(rule("complete", **fault))) >> Opened("a") << Proceed()
        book >> Asked("a", "complete", command="STOR", path="/a")
        for step in steps:
            book << step

    @pytest.mark.parametrize("on", ["transfer", "retr", "mlsd"])
    @pytest.mark.parametrize("case", LATER)
    def test_after_bytes(self, play, case, on):
        """First it behaves; what the rule says comes with the byte."""
        fault, steps = self.LATER[case]
        verb = "appe" if on == "transfer" else on
        book = play(ftp(rule(on, after_bytes=1000, **fault))) >> Opened("a") << Proceed()
        book >> transfer("a", verb) << Watch(1000) << Proceed() >> Heard("a") >> Reached("a")
        assert book.scripts[0].moment == verb
        assert book.scripts[0].rule == "phase[0].rule[0]"
        for step in steps:
            book << step

    UNASKED: dict[str, tuple[dict[str, Any], list[Any]]] = {
        "told": ({"reply": NO}, [SORRY]),
        "closed": ({"reply": BYE}, [Send(BYE), Close()]),
        "with its data connection": ({"reply": BYE, "data": "reset"}, [EndData("reset"), Send(BYE), Close()]),
        "its data connection and no more": ({"reply": NO, "data": "drain"}, [EndData("drain"), SORRY]),
        "left": ({"close": True, "data": "fin"}, [EndData("fin"), Close()]),
        "slowly": ({"reply": NO, "data": "fin", "delay": "2s"}, [Wait(2.0), EndData("fin"), SORRY]),
    }

    @pytest.mark.parametrize("case", UNASKED)
    def test_unasked(self, play, case):
        fault, steps = self.UNASKED[case]
        book = (
            play(ftp(phase(), phase(rule("enter", **fault)))) >> Opened("a") << Proceed() >> transfer("a") << Proceed()
        )
        book.next_phase() << To("a", *steps)
        book = play(ftp(rule("idle", after="10s", **fault))) >> Opened("a") << Proceed()
        book.at(10) >> Tick() << To("a", *steps)
        book = play(ftp(rule("error", **fault))) >> Opened("a") << Proceed() >> Answered("a", 550, "RETR")
        for step in steps:
            book << step

    @pytest.mark.parametrize("on", ["pasv", "epsv"])
    @pytest.mark.parametrize("how", ["fin", "reset", "drain", "drop"])
    def test_what_is_announced_is_doomed_before_it_is_opened(self, play, on, how):
        book = play(ftp(rule(on, data=how))) >> Opened("a") << Proceed()
        book >> Asked("a", on) << EndData(how) << Proceed() >> transfer("a") << Proceed()
        book = play(ftp(rule(on, data=how, reply="227 {p1} {p2} {data.port}"))) >> Opened("a") << Proceed()
        book >> Asked("a", on) << EndData(how) << Proceed("227 {p1} {p2} {data.port}")

    @pytest.mark.parametrize("on", ["pasv", "epsv"])
    def test_a_refused_announcement_ends_nothing(self, play, on):
        play(ftp(rule(on, reply=NO))) >> Opened("a") << Proceed() >> Asked("a", on) << SORRY

    def test_placeholders_of_a_port_are_left_to_the_adapter_and_others_filled(self, play):
        reply = ["227-{host} {{p1}}", "227 {client} ({p1},{p2})"]
        book = play(ftp(rule("pasv", reply=reply))) >> Opened("a", "10.0.0.1") << Proceed()
        book >> Asked("a", "pasv") << Proceed("227-fake.notnow.test {p1}", "227 10.0.0.1 ({p1},{p2})")


class TestReached:
    def test_nothing_comes_of_a_transfer_that_ends_sooner(self, play):
        book = play(ftp(rule("transfer", after_bytes=1000, reply=NO))) >> Opened("a") << Proceed()
        book >> transfer("a") << Watch(1000) << Proceed() >> Ended("a", "retr") >> Reached("a")
        book >> transfer("a", "stor") << Watch(1000) << Proceed() >> Reached("a") << EndData() << SORRY

    def test_it_comes_once(self, play):
        book = play(ftp(rule("transfer", after_bytes=1000, reply=NO))) >> Opened("a") << Proceed()
        book >> transfer("a") << Watch(1000) << Proceed() >> Reached("a") << EndData() << SORRY >> Reached("a")

    def test_it_is_counted_when_it_is_decided(self, play):
        book = play(ftp(rule("retr", after_bytes=9, times=1, reply=NO))) >> Opened("a") << Proceed()
        book >> transfer("a") << Watch(9) << Proceed() >> Ended("a", "retr") >> transfer("a") << Proceed()

    def test_a_scenario_that_is_swapped_forgets_it(self, play):
        book = play(ftp(rule("retr", after_bytes=9, reply=NO))) >> Opened("a") << Proceed()
        book >> transfer("a") << Watch(9) << Proceed()
        book.play("ftp/healthy") >> Reached("a")

    def test_a_phase_that_ends_does_not(self, play):
        book = play(ftp(phase(rule("retr", after_bytes=9, reply=NO), lasts="10s"), phase())) >> Opened("a") << Proceed()
        book >> transfer("a") << Watch(9) << Proceed()
        book.at(20) >> Reached("a") << EndData() << SORRY
        assert (book.scripts[0].phase, book.engine.phase) == ("phase 1", "phase 2")


class TestOver:
    """Places in a transfer: what is in progress counts, until it has ended."""

    def test_of_any_verb(self, play):
        book = play(ftp(rule("transfer", over=2, reply="450 busy")))
        for conn in "abc":
            book >> Opened(conn) << Proceed()
        book >> transfer("a") << Proceed() >> transfer("b", "stor") << Proceed()
        book >> transfer("c", "list") << EndData() << Send("450 busy")
        (
            book
            >> Ended("b", "stor")
            >> transfer("c", "list")
            << Proceed()
            >> transfer("b")
            << EndData()
            << Send("450 busy")
        )

    def test_of_one_verb_the_others_are_free(self, play):
        book = play(ftp(rule("retr", over=1, reply="450 busy"))) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> transfer("a", "stor") << Proceed() >> transfer("b") << Proceed() >> Ended("a", "stor")
        book >> transfer("a") << EndData() << Send("450 busy")

    def test_of_some_verbs_together(self, play):
        book = (
            play(ftp(rule(["stor", "appe"], over=1, reply="450 busy")))
            >> Opened("a")
            << Proceed()
            >> Opened("b")
            << Proceed()
        )
        book >> transfer("a", "stor") << Proceed() >> transfer("b", "appe") << EndData() << Send("450 busy")
        book >> Ended("a", "stor") >> transfer("b", "appe") << Proceed()

    def test_of_two_rules_each_for_itself(self, play):
        rules = [rule("stor", over=1, reply="450 stor"), rule("transfer", over=2, reply="450 all")]
        book = play(ftp(*rules))
        for conn in "abc":
            book >> Opened(conn) << Proceed()
        book >> transfer("a", "stor") << Proceed() >> transfer("b", "stor") << EndData() << Send("450 stor")
        book >> transfer("b") << Proceed() >> transfer("c") << EndData() << Send("450 all")
        book >> Ended("b", "retr") >> transfer("c") << Proceed()

    def test_per_client_and_user(self, play):
        book = play(ftp(rule("transfer", over=1, per="user", reply="450 busy")))
        for conn, user in (("a", "ann"), ("b", "bob"), ("c", "ann")):
            book >> Opened(conn) << Proceed() >> Known(conn, {"user": user})
        (
            book
            >> transfer("a")
            << Proceed()
            >> transfer("b")
            << Proceed()
            >> transfer("c")
            << EndData()
            << Send("450 busy")
        )

    def test_where(self, play):
        book = play(ftp(rule("transfer", over=1, where={"path": "/big*"}, reply="450 busy")))
        book >> Opened("a") << Proceed() >> Opened("b") << Proceed() >> transfer("a", path="/small") << Proceed()
        book >> transfer("b", path="/big") << Proceed() >> Ended("a", "retr")
        book >> transfer("a", path="/big") << EndData() << Send("450 busy") >> transfer("a", path="/small") << Proceed()

    @pytest.mark.parametrize("end", [Ended("a", "retr"), Leaving("a"), Closed("a")])
    def test_a_place_is_free(self, play, end):
        book = (
            play(ftp(rule("transfer", over=1, reply="450 busy")))
            >> Opened("a")
            << Proceed()
            >> Opened("b")
            << Proceed()
        )
        book >> transfer("a") << Proceed() >> end >> transfer("b") << Proceed()

    def test_an_end_of_something_else_frees_nothing(self, play):
        book = (
            play(ftp(rule("transfer", over=1, reply="450 busy")))
            >> Opened("a")
            << Proceed()
            >> Opened("b")
            << Proceed()
        )
        book >> transfer("a") << Proceed() >> Ended("a", "stor") >> Ended("b", "retr")
        book >> transfer("b") << EndData() << Send("450 busy")

    def test_what_is_refused_takes_none_and_what_waits_for_a_byte_does(self, play):
        rules = [
            rule("transfer", over=1, reply="450 busy"),
            rule("stor", after_bytes=5, reply=NO),
            rule("list", reply=NO),
        ]
        book = play(ftp(*rules)) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> transfer("a", "list") << EndData() << SORRY >> transfer("b", "stor") << Watch(5) << Proceed()
        book >> transfer("a") << EndData() << Send("450 busy")
        book >> Reached("b") << EndData() << SORRY >> Ended("b", "stor") >> transfer("a") << Proceed()

    def test_places_are_kept_when_a_scenario_is_swapped(self, play):
        book = (
            play("ftp/healthy")
            >> Opened("a")
            << Proceed()
            >> Opened("b")
            << Proceed()
            >> transfer("a", "stor")
            << Proceed()
        )
        book.play(ftp(rule("transfer", over=1, reply="450 busy"))) >> transfer("b") << EndData() << Send("450 busy")
        book >> Ended("a", "stor") >> transfer("b") << Proceed()
        book.play(ftp(rule("stor", over=1, reply="450 busy"))) >> transfer("a", "stor") << Proceed()

    def test_and_when_a_phase_ends(self, play):
        cap = rule("transfer", over=1, reply="450 busy")
        book = play(ftp(phase(cap, lasts="10s"), phase(cap))) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> transfer("a") << Proceed()
        book.at(20) >> transfer("b") << EndData() << Send("450 busy")

    def test_within_counts_those_that_were_let_through(self, play):
        book = play(ftp(rule("retr", over=2, within="1h", reply="450 enough"))) >> Opened("a") << Proceed()
        for _ in range(2):
            book >> transfer("a") << Proceed() >> Ended("a", "retr")
        book >> transfer("a") << EndData() << Send("450 enough")
        book.at(3600) >> transfer("a") << Proceed()

    def test_logins_of_a_user_are_connections(self, play):
        book = play(ftp(rule("login", over=1, per="user", reply=BYE)))
        for conn in "abc":
            book >> Opened(conn) << Proceed()
        book >> Asked("a", "login", user="ann") << Proceed() >> Asked("b", "login", user="bob") << Proceed()
        book >> Asked("c", "login", user="ann") << Send(BYE) << Close()


class TestUntil:
    def test_a_transfer_of_any_verb(self, play):
        book = play(ftp(phase(until={"transfer": 3}), phase(rule("transfer", reply=NO)))) >> Opened("a") << Proceed()
        for verb in ("retr", "stor", "list"):
            book >> transfer("a", verb) << Proceed() >> Ended("a", verb)
        book >> transfer("a") << EndData() << SORRY

    def test_one_verb_and_another_first_to_come(self, play):
        book = play(ftp(phase(until={"stor": 2, "login": 5}), phase(rule("any", reply=NO)))) >> Opened("a") << Proceed()
        for verb in ("retr", "stor", "retr", "stor"):
            book >> transfer("a", verb) << Proceed() >> Ended("a", verb)
        book >> Asked("a", "noop") << SORRY

    def test_refused_ones_count(self, play):
        book = play(ftp(phase(rule("transfer", reply=NO), until={"transfer": 2}), phase())) >> Opened("a") << Proceed()
        book >> transfer("a") << EndData() << SORRY >> transfer("a") << EndData() << SORRY >> transfer("a") << Proceed()


class TestSinceTransfer:
    CLOSES = ftp(rule("idle", after="30s", since="transfer", reply=BYE))

    def opened(self, play: Playing) -> Playbook:
        return play(self.CLOSES) >> Opened("a") << Proceed()

    def test_commands_do_not_count(self, play):
        book = self.opened(play)
        book.at(29) >> Asked("a", "noop") << Proceed()
        book.at(30) >> Tick() << To("a", Send(BYE), Close())

    def test_it_begins_anew_when_one_ends(self, play):
        book = self.opened(play)
        book.at(20) >> transfer("a") << Proceed()
        book.at(25) >> Ended("a", "retr")
        book.at(54) >> Tick()
        book.at(55) >> Tick() << To("a", Send(BYE), Close())

    def test_so_it_does_when_one_begins(self, play):
        book = self.opened(play)
        book.at(20) >> transfer("a") << Proceed()
        book.at(49) >> Tick()
        book.at(50) >> Tick() << To("a", Send(BYE), Close())

    def test_but_not_when_it_is_refused(self, play):
        rules = [rule("retr", reply=NO), rule("idle", after="30s", since="transfer", reply=BYE)]
        book = play(ftp(*rules)) >> Opened("a") << Proceed()
        book.at(20) >> transfer("a") << EndData() << SORRY
        book.at(30) >> Tick() << To("a", Send(BYE), Close())

    def test_bytes_of_one_count(self, play):
        book = self.opened(play)
        book.at(20) >> transfer("a") << Proceed()
        for now in (40, 60, 80):
            book.at(now) >> Heard("a")
        book.at(109) >> Tick()
        book.at(110) >> Tick() << To("a", Send(BYE), Close())

    def test_bytes_of_one_that_goes_on_after_quit_count(self, play):
        """RFC 959 §4.1.1: the transfer that QUIT finds in progress is finished."""
        book = self.opened(play)
        book.at(20) >> transfer("a") << Proceed() >> Asked("a", "quit") << Proceed() >> Leaving("a")
        book.at(40) >> Heard("a")
        book.at(60) >> Ended("a", "retr")
        book.at(89) >> Tick()
        book.at(90) >> Tick() << To("a", Send(BYE), Close())

    def test_bytes_that_are_of_none_do_not(self, play):
        book = self.opened(play)
        book.at(20) >> Heard("a")
        book.at(30) >> Tick() << To("a", Send(BYE), Close())

    def test_other_silences_beside_it(self, play):
        rules = [
            rule("idle", after="30s", since="transfer", reply="450 transfer?"),
            rule("idle", after="20s", reply="450 hello?"),
        ]
        book = play(ftp(*rules)) >> Opened("a") << Proceed()
        book.at(15) >> Asked("a", "noop") << Proceed()
        book.at(30) >> Tick() << To("a", Send("450 transfer?"))
        book.at(35) >> Tick() << To("a", Send("450 hello?"))


class TestKnown:
    def test_what_has_become_known_stays_so_until_it_is_taken_back(self, play):
        book = play(ftp(rule("noop", where={"user": "ann"}, reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "noop") << Proceed() >> Known("a", {"user": "ann"}) >> Asked("a", "noop") << SORRY
        book >> Known("a", {"user": None}) >> Asked("a", "noop") << Proceed()

    def test_what_a_command_says_is_known_at_that_command_only(self, play):
        book = play(ftp(rule(["user", "noop"], where={"user": "ann"}, reply=NO))) >> Opened("a") << Proceed()
        book >> Asked("a", "user", user="ann") << SORRY >> Asked("a", "noop") << Proceed()

    def test_of_nobody(self, play):
        play("ftp/healthy") >> Known("nobody", {"user": "ann"})

    def test_what_is_announced_is_known_where_nothing_was_asked(self, play):
        scenario = ftp(phase(), phase(rule("enter", where={"mode": "passive"}, reply=NO)))
        book = play(scenario) >> Opened("a") << Proceed() >> Opened("b") << Proceed() >> Known("a", {"mode": "passive"})
        book.next_phase() << To("a", SORRY)


class TestFactsTakenBack:
    """REIN (RFC 959 §4.1.1): a connection that has no user any more gives back the slots that it took as a user."""

    CAP = rule("login", over=1, per="user", reply=BYE)

    @pytest.fixture
    def two(self, play: Playing) -> Any:
        def opened(*parts: dict[str, Any]) -> Playbook:
            return play(ftp(*parts)) >> Opened("a") << Proceed() >> Opened("b") << Proceed()

        return opened

    def login(self, conn: str) -> Any:
        return Asked(conn, "login", user="ann")

    def test_the_slot_of_a_login_is_free(self, two):
        book = two(self.CAP) >> self.login("a") << Proceed() >> Known("a", {"user": "ann"})
        book >> Known("a", {"user": None}) >> self.login("b") << Proceed()

    def test_another_fact_frees_nothing(self, two):
        book = two(self.CAP) >> self.login("a") << Proceed() >> Known("a", {"user": "ann", "mode": "passive"})
        book >> Known("a", {"mode": None}) >> self.login("b") << Send(BYE) << Close()

    def test_the_slot_of_the_connection_stays(self, two):
        book = two(rule("connect", over=2, reply=BYE)) >> self.login("a") << Proceed() >> Known("a", {"user": "ann"})
        book >> Known("a", {"user": None}) >> Opened("c") << Send(BYE) << Close()

    def test_a_slot_counted_per_user_is_free_whatever_moment_took_it(self, two):
        book = (
            two(rule("noop", over=1, per="user", reply=BYE))
            >> Known("a", {"user": "ann"})
            >> Known("b", {"user": "ann"})
        )
        book >> Asked("a", "noop") << Proceed() >> Known("a", {"user": None}) >> Asked("b", "noop") << Proceed()

    def test_admissions_of_a_window_are_not_given_back(self, two):
        book = two(rule("login", over=1, per="user", within="1h", reply=BYE)) >> self.login("a") << Proceed()
        book >> Known("a", {"user": "ann"}) >> Known("a", {"user": None}) >> self.login("b") << Send(BYE) << Close()

    def test_a_scenario_that_is_swapped_knows_no_login_that_was_taken_back(self, two):
        book = two(phase()) >> self.login("a") << Proceed() >> Known("a", {"user": "ann"}) >> Known("a", {"user": None})
        book.play(ftp(rule("login", over=1, reply=BYE))) >> self.login("b") << Proceed()


class TestInProgress:
    """Where nothing was asked, what is known is what goes on."""

    def test_idle_where_a_transfer_stalls(self, play):
        stalled = rule("idle", after="30s", where={"command": ["STOR", "RETR"]}, data="reset", reply="426 stalled")
        book = play(ftp(stalled)) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> transfer("a", "stor") << Proceed() >> Asked("b", "noop", command="NOOP") << Proceed()
        book.at(30) >> Tick() << To("a", EndData("reset"), Send("426 stalled"))
        book >> Ended("a", "stor")
        book.at(90) >> Tick()

    def test_idle_where_a_transfer_stalls_after_quit(self, play):
        stalled = rule("idle", after="30s", where={"command": "STOR"}, data="reset", reply="426 stalled")
        book = play(ftp(stalled)) >> Opened("a") << Proceed() >> transfer("a", "stor") << Proceed() >> Leaving("a")
        book.at(30) >> Tick() << To("a", EndData("reset"), Send("426 stalled"))

    def test_enter_where_the_mode_is_active(self, play):
        scenario = ftp(phase(), phase(rule("enter", where={"mode": "active"}, reply=BYE)))
        book = play(scenario) >> Opened("a") << Proceed() >> Opened("b") << Proceed()
        book >> transfer("a", mode="active") << Proceed() >> transfer("b", mode="passive") << Proceed()
        book.next_phase() << To("a", Send(BYE), Close())

    def test_not_of_what_was_refused(self, play):
        scenario = ftp(phase(rule("retr", reply=NO)), phase(rule("enter", where={"command": "*"}, reply=BYE)))
        book = play(scenario) >> Opened("a") << Proceed() >> transfer("a") << EndData() << SORRY
        book.next_phase()

    def test_not_of_what_has_ended(self, play):
        scenario = ftp(phase(), phase(rule("enter", where={"command": "*"}, reply=BYE)))
        book = play(scenario) >> Opened("a") << Proceed() >> transfer("a") << Proceed() >> Ended("a", "retr")
        book.next_phase()

    def test_it_says_nothing_about_a_command_that_comes_meanwhile(self, play):
        book = (
            play(ftp(rule("stat", where={"path": "/a"}, reply=NO)))
            >> Opened("a")
            << Proceed()
            >> transfer("a")
            << Proceed()
        )
        (
            book
            >> Asked("a", "stat", command="STAT")
            << Proceed()
            >> Asked("a", "stat", command="STAT", path="/a")
            << SORRY
        )


def test_who_waits_for_a_transfer_to_begin_is_not_idle(play):
    rules = [rule("idle", after="30s", reply=BYE), rule("retr", delay="1h")]
    book = play(ftp(*rules)) >> Opened("a") << Proceed() >> transfer("a") << Wait(3600.0) << Proceed()
    book.at(3629) >> Tick()
    book.at(3630) >> Tick() << To("a", Send(BYE), Close())


def test_a_stalled_transfer_is_no_silence_of_the_client(play):
    rules = [rule("idle", after="30s", reply=BYE), rule("retr", after_bytes=5, stall=True)]
    book = play(ftp(*rules)) >> Opened("a") << Proceed() >> transfer("a") << Watch(5) << Proceed()
    book.at(10) >> Reached("a") << Hang()
    book.at(10_000) >> Tick()
