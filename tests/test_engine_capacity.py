"""A server of finite capacity in the engine: answers wait for their work, and a full queue makes the server busy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from notnow.engine.engine import Engine
from notnow.engine.trail import Traced
from notnow.errors import ScenarioError
from notnow.language.loading import loads
from playbook import (
    BYE,
    NO,
    SORRY,
    Asked,
    Close,
    Closed,
    Opened,
    Playing,
    Proceed,
    Send,
    Tick,
    To,
    Wait,
    Watch,
    document,
    phase,
    playing,
    rule,
)

ONE_A_SECOND = {"capacity": "1/s", "queue": 1}
BUSY = rule("connect", busy=True, reply=BYE)


@pytest.fixture
def play() -> Iterator[Playing]:
    with playing() as made:
        yield made


class TestAnswersWait:
    def test_for_their_own_work_and_for_what_came_before(self, play):
        book = play(document(protocol="smtp", server={"capacity": "2/s"}))
        book >> Opened("a") << Wait(0.5) << Proceed()
        book >> Opened("b") << Wait(1.0) << Proceed()
        book.at(0.75) >> Opened("c") << Wait(0.75) << Proceed()
        book.at(9.0) >> Opened("d") << Wait(0.5) << Proceed()

    def test_other_moments_are_no_work(self, play):
        book = play(document(server={"capacity": "1/s"}))
        book >> Opened("a") << Wait(1.0) << Proceed()
        book >> Asked("a", "mail") << Proceed()

    def test_work_is_what_the_scenario_says(self, play):
        book = play(document(server={"capacity": "1/s", "work": ["mail", "message"]}))
        book >> Opened("a") << Proceed()
        book >> Asked("a", "mail") << Wait(1.0) << Proceed()
        book >> Asked("a", "message") << Wait(2.0) << Proceed()

    def test_any_is_every_command(self, play):
        book = play(document(server={"capacity": "1/s", "work": "any"}))
        book >> Opened("a") << Proceed()
        book >> Asked("a", "ehlo") << Wait(1.0) << Proceed()
        book >> Asked("a", "xyzzy") << Wait(2.0) << Proceed()

    def test_a_request_is_the_work_of_http(self, play):
        book = play(document(protocol="http", server={"capacity": "1/s"}))
        book >> Opened("a") << Proceed()
        book >> Asked("a", "request", stream=1) << Wait(1.0) << Proceed()
        book >> Asked("a", "request", stream=3) << Wait(2.0) << Proceed()

    def test_a_delay_comes_after_the_work(self, play):
        book = play(document(rule("connect", delay="5s"), server={"capacity": "1/s"}))
        book >> Opened("a") << Wait(1.0) << Wait(5.0) << Proceed()

    def test_a_fault_that_waits_for_a_byte_waits_for_the_work_first(self, play):
        slow = rule("request", after_bytes=5, close="reset")
        book = play(document(slow, protocol="http", server={"capacity": "1/s"}))
        book >> Opened("a") << Proceed()
        book >> Asked("a", "request") << Wait(1.0) << Watch(5) << Proceed()

    def test_abandoned_work_is_done_all_the_same(self, play):
        book = play(document(server={"capacity": "1/s"}))
        book >> Opened("a") << Wait(1.0) << Proceed()
        book >> Closed("a")
        book >> Opened("b") << Wait(2.0) << Proceed()

    def test_a_client_that_waits_for_its_work_is_not_idle(self, play):
        book = play(document(rule("idle", after="3s", reply=BYE), server={"capacity": "0.1/s"}))
        book >> Opened("a") << Wait(10.0) << Proceed()
        book.at(12.9) >> Tick()
        book.at(13.0) >> Tick() << To("a", Send(BYE), Close())

    def test_another_scenario_begins_with_an_empty_queue(self, play):
        text = document(server={"capacity": "1/s"})
        book = play(text)
        book >> Opened("a") << Wait(1.0) << Proceed()
        book.play(text)
        book >> Opened("b") << Wait(1.0) << Proceed()

    def test_the_queue_outlasts_its_phase(self, play):
        book = play(document(phase(until={"connect": 1}), phase(), server={"capacity": "1/s"}))
        book >> Opened("a") << Wait(1.0) << Proceed()
        book >> Opened("b") << Wait(2.0) << Proceed()


class TestBusy:
    def test_holds_while_the_queue_is_full(self, play):
        book = play(document(BUSY, server=ONE_A_SECOND))
        book >> Opened("a") << Wait(1.0) << Proceed()
        book >> Opened("b") << Wait(2.0) << Proceed()
        book >> Opened("c") << Send(BYE) << Close()
        book.at(0.99) >> Opened("d") << Send(BYE) << Close()
        book.at(1.0) >> Opened("e") << Wait(2.0) << Proceed()

    def test_without_such_a_rule_the_queue_grows(self, play):
        book = play(document(server=ONE_A_SECOND))
        for n in range(1, 6):
            book >> Opened(f"{n}") << Wait(float(n)) << Proceed()

    def test_false_is_the_opposite(self, play):
        book = play(document(rule("connect", busy=False), rule("connect", reply=BYE), server=ONE_A_SECOND))
        for conn, wait in (("a", 1.0), ("b", 2.0)):
            book >> Opened(conn) << Wait(wait) << Proceed()
        book >> Opened("c") << Send(BYE) << Close()

    def test_may_act_where_there_is_no_work(self, play):
        """As sendmail's RefuseLA does: messages make the load, and connections are refused."""
        book = play(document(BUSY, server={"capacity": "1/s", "queue": 0, "work": "message"}))
        book >> Opened("a") << Proceed()
        book >> Asked("a", "message") << Wait(1.0) << Proceed()
        book >> Opened("b") << Send(BYE) << Close()
        book.at(1.0) >> Opened("c") << Proceed()

    def test_says_when_there_is_room(self, play):
        retry = rule("request", busy=True, status=503, headers={"retry-after": "{wait.seconds}", "x": "{wait.ms}"})
        book = play(document(retry, protocol="http", server={"capacity": "0.5/s", "queue": 0}))
        book >> Opened("a") << Proceed()
        book >> Asked("a", "request", stream=1) << Wait(2.0) << Proceed()
        book.at(0.5) >> Asked("a", "request", stream=3)
        (step,) = book.skip().scripts[0].steps
        assert dict(step.response.headers) == {"retry-after": "2", "x": "1500"}

    def test_counts_with_the_other_conditions(self, play):
        book = play(document(rule("connect", busy=True, nth=3, reply=BYE), server=ONE_A_SECOND))
        for conn, wait in (("a", 1.0), ("b", 2.0)):
            book >> Opened(conn) << Wait(wait) << Proceed()
        book >> Opened("c") << Send(BYE) << Close()
        book >> Opened("d") << Wait(3.0) << Proceed()

    def test_two_replicas_have_one_queue(self):
        shared = Traced()
        engines = [Engine(loads(document(BUSY, server=ONE_A_SECOND)), store=lambda: shared) for _ in range(2)]
        steps = [script.steps for n in range(3) for script in engines[n % 2].feed(Opened(f"{n}"), 0.0)]
        assert steps == [(Wait(1.0), Proceed()), (Wait(2.0), Proceed()), (Send(BYE), Close())]

    def test_is_explained_with_what_waited(self):
        engine = Engine(loads(document(BUSY, server=ONE_A_SECOND)), store=Traced)
        for n in range(3):
            engine.feed(Opened(f"{n}"), n / 4)
        said = [str(one) for n in (2, 3) for one in engine.explain(n, "connect") or ()]
        assert said == [
            "phase[0].rule[0] did not fire: busy, while its queue is full: 0.75 units of work waited",
            "phase[0].rule[0] fired: all its conditions hold",
        ]


class TestRefusalsCost:
    SERVER = {"capacity": "1/s", "queue": 4, "refusal_cost": "50%"}

    def test_whichever_rule_refuses(self, play):
        book = play(document(rule("connect", first=2, reply=BYE), server=self.SERVER))
        for conn in "ab":
            book >> Opened(conn) << Send(BYE) << Close()
        book >> Opened("c") << Wait(2.0) << Proceed()

    def test_only_at_a_moment_of_work(self, play):
        book = play(document(rule("mail", reply=NO), server=self.SERVER))
        book >> Opened("a") << Wait(1.0) << Proceed()
        book >> Asked("a", "mail") << SORRY
        book >> Opened("b") << Wait(2.0) << Proceed()

    def test_what_is_kept_and_yet_refused_is_done(self, play):
        kept = rule("message", keep=True, reply=BYE)
        book = play(document(kept, server={**self.SERVER, "work": "message"}))
        book >> Opened("a") << Proceed()
        book >> Asked("a", "message") << Wait(1.0) << Proceed(BYE) << Close()


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ({"capacity": "0/s"}, "server.capacity: found '0/s'; allowed: a number above 0 per second"),
        ({"capacity": 200}, "server.capacity: found 200; allowed: a number above 0 per second"),
        ({"queue": 5}, "server.queue: 'queue' goes with 'capacity'; allowed: capacity = "),
        ({"refusal_cost": "10%"}, "server.refusal_cost: 'refusal_cost' goes with 'capacity'"),
        ({"work": "mail"}, "server.work: 'work' goes with 'capacity'"),
        ({"capacity": "1/s", "refusal_cost": "10%"}, "server.refusal_cost: nothing bounds the work of refusals; allowed: queue = N"),
        ({"capacity": "1/s", "refusal_cost": 0.1}, "server.refusal_cost: found 0.1; allowed: a percentage"),
        ({"capacity": "1/s", "queue": -1}, "server.queue: found -1; allowed: 0 or more"),
        ({"capacity": "1/s", "work": "idle"}, "server.work: no answer can wait at 'idle'; allowed: connect, any, starttls,"),
        ({"capacity": "1/s", "work": "tls"}, "server.work: no answer can wait at 'tls'"),
        ({"capacity": "1/s", "work": "mesage"}, "server.work: there is no moment 'mesage'; allowed: connect, any, starttls,"),
    ],
)  # fmt: skip
def test_a_bad_server_is_a_sentence(server: dict[str, object], said: str) -> None:
    with pytest.raises(ScenarioError) as error:
        loads(document(server=server))
    assert said in str(error.value)


def test_a_server_without_a_queue_is_never_busy() -> None:
    for server in ({}, {"capacity": "1/s"}):
        with pytest.raises(ScenarioError, match=r"rule\[0\].busy: this server is never busy: its queue has no bound"):
            loads(document(BUSY, server=server))


def test_a_bound_that_nobody_looks_at_is_a_doubt() -> None:
    (warning,) = loads(document(server=ONE_A_SECOND)).warnings
    assert "server.queue: nobody is refused when the queue is full: it grows" in str(warning)
    assert not loads(document(BUSY, server=ONE_A_SECOND)).warnings
    assert not loads(document(server={**ONE_A_SECOND, "refusal_cost": "1%"})).warnings
