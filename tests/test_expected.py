"""What scenarios expect, judged like rules: of one server, and of several between which a client may choose."""

from __future__ import annotations

from notnow import FakeSMTP, ManualClock
from notnow.conduct import expected
from notnow.language.expect import Expect
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from smtp_client import MESSAGE, Raw

DOWN = '[[phase]]\nname = "down"\n[[phase.rule]]\non = "connect"\nreply = "421 no"\n'


def wants(expect: str, phase: str = '[[phase]]\nname = "up"\n') -> Scenario:
    return loads(f'protocol = "smtp"\n{phase}[expect]\n{expect}\n', name="test")


def judged(*fakes: FakeSMTP) -> dict[str, str]:
    for fake in fakes:
        fake.settle()
    return {one.rule.id: one.outcome for one in expected.judge(fakes)}


def send(fake: FakeSMTP) -> None:
    with Raw(fake).hello() as raw:
        assert raw.deliver(MESSAGE).startswith("250")
        raw.say("QUIT")


def refused(fake: FakeSMTP) -> None:
    with Raw(fake) as raw:
        assert raw.reply().startswith("421")


def test_each_key_has_a_verdict_of_its_own() -> None:
    with FakeSMTP(
        wants("delivered = { times = 2 }\nno_duplicates = true\nnever_exceeded = { connections = 1 }")
    ) as fake:
        send(fake)
        send(fake)
        assert judged(fake) == {
            "expect.delivered": "held", "expect.no-duplicates": "broken", "expect.never-exceeded": "held",
        }  # fmt: skip


def test_a_broken_one_says_why_and_what_proves_it() -> None:
    with FakeSMTP(wants("no_duplicates = true")) as fake:
        send(fake)
        send(fake)
        (verdict,) = expected.judge([fake])
        assert verdict.finding.why == "expected nothing to be stored twice, but <1@client.test> was stored twice"
        stored = [x for x in fake.journal if x.moment == "message"]
        assert list(verdict.finding.evidence) == stored
        assert (verdict.rule.level, verdict.rule.source) == ("must", "[expect] of test")


def test_where_nobody_came_nothing_was_exercised() -> None:
    with FakeSMTP(wants("delivered = { times = 1 }")) as fake:
        assert judged(fake) == {"expect.delivered": "not exercised"}


def test_what_came_through_on_one_server_counts_for_all() -> None:
    clock, want = ManualClock(), "delivered = { times = 1 }"
    with FakeSMTP(wants(want, DOWN), clock=clock, name="a") as a, FakeSMTP(wants(want), clock=clock, name="b") as b:
        refused(a)
        assert judged(a, b) == {"expect.delivered": "broken"}
        send(b)
        assert judged(a, b) == {"expect.delivered": "held"}
        send(b)
        assert judged(a, b) == {"expect.delivered": "broken"}


def test_who_falls_back_need_not_come_back() -> None:
    clock = ManualClock()
    with FakeSMTP(wants("retried = { times = 1 }", DOWN), clock=clock) as a, FakeSMTP(clock=clock) as b:
        refused(a)
        assert judged(a, b)["expect.retried"] == "broken"
        send(b)
        assert judged(a, b)["expect.retried"] == "not exercised"
        refused(a)
        assert judged(a, b)["expect.retried"] == "held"


def test_who_falls_back_need_not_go_on_trying() -> None:
    clock = ManualClock()
    with FakeSMTP(wants("gave_up = '5d'", DOWN), clock=clock) as a, FakeSMTP(clock=clock) as b:
        refused(a)
        assert judged(a, b)["expect.gave-up"] == "broken"
        send(b)
        assert judged(a, b)["expect.gave-up"] == "not exercised"
        clock.advance("5d")
        refused(a)
        assert judged(a, b)["expect.gave-up"] == "held"


def test_every_key_has_words() -> None:
    assert set(expected._KEYS) == set(Expect.model_fields)
