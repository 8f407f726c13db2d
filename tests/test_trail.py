"""Why a rule fired at an exchange, or did not: what each condition saw, by playing the store's calls again."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from sys import getsizeof

import pytest

from notnow import FakeSMTP, ManualClock
from notnow.bounds import RECIPIENTS
from notnow.engine import trail
from notnow.engine.engine import Engine
from notnow.engine.events import Asked, Closed, Event, Leaving, Opened, Tick
from notnow.engine.progress import Progress
from notnow.engine.questions import Decision, DecisionRequest
from notnow.engine.store import Memory
from notnow.language.loading import loads
from playbook import BYE, NO, document, phase, rule
from smtp_client import Raw


def engine(text: str) -> Engine:
    return Engine(loads(text), seed=1, store=trail.Traced)


def mail(conn: str, sender: str = "a@x", **facts: object) -> Asked:
    return Asked(conn, "mail", {"sender": sender, **facts})


def said(found: list[trail.Explanation] | None) -> list[str]:
    assert found is not None
    return [str(one) for one in found]


def after(text: str, *events: Event | float) -> list[str]:
    """The explanations of the decision about the last event; a number lets so many seconds pass."""
    made, now, decision, moment = engine(text), 0.0, 0, ""
    for event in events:
        if isinstance(event, float):
            now += event
            continue
        scripts = made.feed(event, now)
        if isinstance(event, Asked | Opened):
            moment = event.moment if isinstance(event, Asked) else "connect"
            decision = next(script.decision for script in scripts if script.moment == moment)
    return said(made.explain(decision, moment))


@pytest.mark.parametrize("end", [Closed("a"), Leaving("a")])
def test_a_store_that_is_traced_decides_as_another_does(end: Event) -> None:
    text = document(rule("connect", over=1, reply=BYE), rule("mail", nth=2, per="connection", reply=NO))
    events = [
        Opened("a", "h"),
        mail("a"),
        mail("a"),
        Opened("b", "h"),
        end,
        Opened("c", "h"),
        mail("c"),
        Opened("d", "h"),
    ]
    traced, plain = engine(text), Engine(loads(text), seed=1)
    assert [traced.feed(event, 0.0) for event in events] == [plain.feed(event, 0.0) for event in events]
    for each in (traced, plain):
        each.play(loads(text), 0.0)
    assert traced.feed(Opened("e", "h"), 0.0) == plain.feed(Opened("e", "h"), 0.0)


class Undecided(trail.Traced):
    """No count is asked."""

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        raise AssertionError(f"{request} was decided at {now}")


def test_a_rule_that_always_fires_asks_no_count_and_is_explained_all_the_same() -> None:
    text = document(rule("mail", reply=NO), rule("mail", times=1, reply=BYE))
    made = Engine(loads(text), store=Undecided)
    made.feed(Opened("a", "h"), 0.0)
    assert [script.decision for _ in range(3) for script in made.feed(mail("a"), 0.0)] == [1, 2, 3]
    assert said(made.explain(3, "mail")) == [
        "phase[0].rule[0] fired: all its conditions hold",
        "phase[0].rule[1] did not fire: phase[0].rule[0] comes before it, and fired",
    ]
    assert made.explain(4, "mail") is None


def test_decisions_that_were_not_taken_anew_are_numbered_among_the_others(monkeypatch) -> None:
    text = document(rule("mail", reply=NO), rule("rcpt", nth=2, reply=NO))
    made = engine(text)
    made.feed(Opened("a", "h"), 0.0)
    moments = ["mail", "mail", "rcpt", "mail", "mail", "mail", "rcpt", "mail"]

    def go() -> list[int]:
        return [script.decision for moment in moments for script in made.feed(Asked("a", moment), 0.0)]

    assert go() == list(range(1, 9))
    always, first = ["phase[0].rule[0] fired: all its conditions hold"], "nth, only the 2nd: this was the 1st"
    for number, moment in enumerate(moments, 1):
        if moment == "mail":
            assert said(made.explain(number, moment)) == always
    assert said(made.explain(3, "rcpt")) == [f"phase[0].rule[1] did not fire: {first}"]
    assert said(made.explain(7, "rcpt")) == ["phase[0].rule[1] fired: all its conditions hold"]
    assert made.explain(9, "mail") is None
    monkeypatch.setattr(trail, "DECISIONS", 2)
    made = engine(text)
    made.feed(Opened("a", "h"), 0.0)
    go()
    assert [made.explain(number, "mail") for number in (1, 2, 4, 6)] == [None] * 4
    assert said(made.explain(8, "mail")) == always


@pytest.mark.parametrize(
    "keys",
    [
        {"reply": NO},
        {"reply": NO, "delay": "2s"},
        {"reply": NO, "delay": "2s", "keep": True},
        {"reply": "250 ok"},
        {"stall": True},
        {"reply": BYE},
        {"reply": NO, "where": {"sender": "a@*"}},
        {"reply": NO, "chance": "50%"},
        {"reply": NO, "first": 2},
        {"reply": NO, "over": 1},
        {"reply": "450 {left.seconds}"},
    ],
)
def test_what_is_not_decided_anew_is_what_would_be_decided(keys: Mapping[str, object], monkeypatch) -> None:
    text = document(
        phase(rule("mail", **keys), lasts="20s"),
        phase(rule("mail", reply="451 two"), rule("idle", after="4s", reply=NO)),
    )
    events: list[Event] = [
        Opened("a", "h"),
        mail("a"),
        mail("a"),
        mail("b"),
        Opened("b", "h"),
        mail("b"),
        mail("a", "b@x"),
    ]

    def played() -> list[object]:
        made, seen = engine(text), list[object]()
        for number, event in enumerate([*events, Tick(), Tick(), *events[1:], Closed("a"), mail("a")]):
            seen += [made.feed(event, 3.0 * number), made.due]
        return seen

    quick = played()
    monkeypatch.setattr(Progress, "_settled", lambda _: {})
    assert played() == quick


@pytest.mark.parametrize(
    ("keys", "ready"),  # how many refusals of the first phase, and of the last one, need no decision
    [
        ({"reply": BYE}, (9, 7)),
        ({"close": True}, (9, 7)),
        ({"close": "reset"}, (9, 7)),
        ({"reply": BYE, "delay": "2s"}, (9, 7)),
        ({"reply": BYE, "keep": True}, (9, 7)),
        ({"reply": "220 ready"}, (0, 7)),
        ({"reply": "421 {left.seconds}"}, (0, 7)),
        ({"reply": BYE, "where": {"client": "10.*"}}, (0, 7)),
        ({"reply": BYE, "per": "client", "first": 2}, (0, 7)),
        ({"reply": BYE, "chance": "50%"}, (0, 7)),
        ({"reply": BYE, "first": 2}, (0, 7)),
        ({"reply": BYE, "over": 1}, (0, 0)),
    ],
)
@pytest.mark.parametrize("idle", [True, False])
def test_a_refusal_that_is_not_decided_anew_is_what_would_be_decided(
    keys: Mapping[str, object], ready: tuple[int, int], idle: bool
) -> None:
    more = [rule("idle", after="4s", reply=NO)] if idle else []
    text = document(
        phase(rule("connect", **keys), *more, lasts="20s"),
        phase(rule("connect", reply=BYE, chance="50%"), lasts="20s"),
        phase(rule("connect", reply=BYE), until={"connect": 3}),
        phase(rule("connect", reply=BYE), rule("mail", nth=2, reply=NO)),
    )

    def played(quick: bool) -> tuple[list[object], int]:
        made, seen, decisions, refused = engine(text), list[object](), list[int](), 0
        for number in range(30):
            conn, now = f"c{number}", 2.0 * number
            script = made.refuse(conn, now) if quick else None
            refused += script is not None
            scripts = [script] if script is not None else made.feed(Opened(conn, "h"), now)
            (opened,) = [one for one in scripts if one.moment == "connect"]
            if script is None and opened.closes:
                made.forget(conn)
            elif script is None:
                scripts += made.feed(mail(conn), now)
            decisions.append(opened.decision)
            seen += [scripts, made.due, made.left(), made.phase]
        return [*seen, *(made.explain(decision, "connect") for decision in decisions)], refused

    (quick, refused), (slow, _) = played(True), played(False)
    assert quick == slow
    assert refused == (0 if idle else ready[0]) + ready[1]


@pytest.mark.parametrize(
    ("keys", "events", "why"),
    [
        ({"nth": 2}, (mail("a"),), "nth, only the 2nd: this was the 1st"),
        ({"every": 2}, (mail("a"), mail("a"), mail("a")), "every, every 2nd: this was the 3rd"),
        ({"first": 1}, (mail("a"), mail("a")), "first, only the first: this was the 2nd"),
        ({"first": "1m"}, (mail("a"), 90.0, mail("a")), "first, for 1m from the first one: the first one was 1m 30s before"),
        ({"after": 2}, (mail("a"),), "after, after the first 2: this was the 1st"),
        ({"after": "1m"}, (mail("a"), 5.0, mail("a")), "after, from 1m after the first one: the first one was 5s before"),
        ({"over": 1}, (mail("a"),), "over, when 1 is in progress already: there were 0"),
        ({"over": 2, "within": "1m"}, (mail("a"),), "over, when 2 were let through in the last 1m: there were 0"),
        ({"times": 1}, (mail("a"), mail("a")), "times, at most once: it had fired once"),
        ({"chance": "0%"}, (mail("a"),), "chance = 0%: the draw went against it"),
        ({"where": {"sender": "b@*"}}, (mail("a"),), "where.sender: it was 'a@x'"),
        ({"where": {"user": "ann"}}, (mail("a"),), "where.user: it was absent"),
        ({"on": "message", "where": {"header": {"X": "1"}}}, (Asked("a", "message", {"header": {"x": "2", "y": "3"}}),), "where.header.x: it was '2'"),
        ({"on": "message", "where": {"header": {"X": "1"}}}, (Asked("a", "message"),), "where.header.x: it was absent"),
        ({"per": "sender", "nth": 2}, (mail("a"), mail("a", "b@x")), "nth, only the 2nd: this was the 1st"),
    ],
)  # fmt: skip
def test_the_first_condition_that_did_not_hold_and_what_it_saw(
    keys: dict[str, object], events: tuple[Event | float, ...], why: str
) -> None:
    (line,) = after(document(rule(**{"on": "mail", "reply": NO, **keys})), Opened("a", "192.0.2.1"), *events)
    assert line.startswith("phase[0].rule[0] did not fire: ")
    assert line.removeprefix("phase[0].rule[0] did not fire: ").replace("in already", "in progress already") == why


def test_the_first_rule_that_matches_wins() -> None:
    text = document(rule("mail", nth=2, reply=NO), rule("mail", reply=BYE), rule("mail", reply=NO))
    assert after(text, Opened("a", "192.0.2.1"), mail("a")) == [
        "phase[0].rule[0] did not fire: nth, only the 2nd: this was the 1st",
        "phase[0].rule[1] fired: all its conditions hold",
        "phase[0].rule[2] did not fire: phase[0].rule[1] comes before it, and fired",
    ]


def test_what_has_left_is_not_counted() -> None:
    text = document(rule("connect", over=1, reply=BYE))
    made = engine(text)
    opened = [made.feed(Opened(conn, "192.0.2.1"), 0.0)[0] for conn in "ab"]
    made.feed(Closed("a"), 1.0)
    third = made.feed(Opened("c", "192.0.2.1"), 2.0)[0]
    decisions = [script.decision for script in (*opened, third)]
    found = [said(made.explain(decision, "connect")) for decision in decisions]
    assert found == [
        ["phase[0].rule[0] did not fire: over, when 1 is in already: there were 0"],
        ["phase[0].rule[0] fired: all its conditions hold"],
        ["phase[0].rule[0] did not fire: over, when 1 is in already: there were 0"],
    ]


def test_the_rules_are_those_of_the_phase_that_played() -> None:
    text = document(phase(rule("mail", reply=NO), until={"mail": 1}), phase(rule("mail", nth=5, reply=NO)))
    made = engine(text)
    made.feed(Opened("a", "192.0.2.1"), 0.0)
    first = made.feed(mail("a"), 0.0)[0]
    second = made.feed(mail("a"), 0.0)[0]
    assert said(made.explain(first.decision, "mail")) == ["phase[0].rule[0] fired: all its conditions hold"]
    assert said(made.explain(second.decision, "mail"))[0].startswith("phase[1].rule[0] did not fire: nth")


def test_only_the_last_calls_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "DECISIONS", 3)
    made = engine(document(rule("mail", nth=9, reply=NO)))
    made.feed(Opened("a", "192.0.2.1"), 0.0)
    scripts = [made.feed(mail("a"), 0.0)[0] for _ in range(9)]
    assert made.explain(scripts[0].decision, "mail") is None
    found = [said(made.explain(script.decision, "mail"))[0].rpartition(": ")[2] for script in scripts[-3:]]
    assert found == ["this was the 7th", "this was the 8th", "all its conditions hold"]


def test_of_long_facts_fewer_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "FACTS", 10_000)
    made = engine(document(rule("mail", nth=9, where={"sender": "a*"}, reply=NO)))
    made.feed(Opened("a", "192.0.2.1"), 0.0)
    lengths = [1, 3000, 3000, 3000, 1, 1, 6000, 3000, 1]
    scripts = [made.feed(mail("a", "a" * length), 0.0)[0] for length in lengths]
    found = [made.explain(script.decision, "mail") for script in scripts]
    assert found[:4] == [None] * 4
    seen = [*(f"this was the {n}th" for n in range(5, 9)), "all its conditions hold"]
    assert [str(one[0]).rpartition(": ")[2] for one in found[4:] if one] == seen
    (script,) = made.feed(mail("a", "a" * 20_000), 0.0)
    assert [made.explain(one.decision, "mail") for one in (*scripts, script)] == [None] * 10
    (script,) = made.feed(mail("a"), 0.0)
    assert said(made.explain(script.decision, "mail")) == [
        "phase[0].rule[0] did not fire: nth, only the 9th: this was the 11th"
    ]


@pytest.mark.parametrize("characters", [3, 2000])
def test_what_clients_say_fills_no_memory(characters: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short recipients take more memory than they have characters."""
    most = 4 * 2**20
    monkeypatch.setattr(trail, "FACTS", most)
    made = engine(document(rule("message", where={"recipient": "b@x"}, reply=NO)))
    made.feed(Opened("a", "192.0.2.1"), 0.0)
    each = sum(getsizeof("r" * characters) + 8 for _ in range(RECIPIENTS))
    tracemalloc.start()
    try:
        for message in range(3 * most // each):
            recipients = tuple(f"{message}.{n}".rjust(characters, "r")[-characters:] for n in range(RECIPIENTS))
            made.feed(Asked("a", "message", {"recipient": recipients}), 0.0)
        assert tracemalloc.get_traced_memory()[0] < most * 1.1
    finally:
        tracemalloc.stop()


def test_a_traced_store_decides_as_any_other() -> None:
    text = document(rule("mail", over=1, per="sender", reply=NO), rule("mail", every=3, reply=BYE))
    events = [Opened("a", "192.0.2.1"), *(mail("a", f"{n % 2}@x") for n in range(12)), Closed("a")]
    traced, plain = engine(text), Engine(loads(text), seed=1, store=Memory)
    assert [traced.feed(event, 0.0) for event in events] == [plain.feed(event, 0.0) for event in events]


def says(raw: Raw, *lines: str) -> None:
    raw.reply()
    for line in lines:
        raw.say(line)


class TestOnAFake:
    @pytest.fixture
    def fake(self) -> Iterator[FakeSMTP]:
        text = document(rule("mail", nth=2, times=3, reply=NO), rule("rcpt", first=2, reply=NO))
        with FakeSMTP(loads(text, name="test"), clock=ManualClock()) as fake:
            yield fake

    def test_explain(self, fake: FakeSMTP) -> None:
        with Raw(fake) as raw:
            says(raw, "EHLO client.test", "MAIL FROM:<a@x.test>", "QUIT")
        fake.settle()
        connect, _, mail, _ = fake.journal.exchanges
        assert fake.explain(connect) == []
        assert [str(one) for one in fake.explain(mail)] == [
            "phase[0].rule[0] did not fire: nth, only the 2nd: this was the 1st"
        ]
        with (
            FakeSMTP(clock=fake.clock, name="other") as other,
            pytest.raises(ValueError, match="one of smtp, not of other"),
        ):
            other.explain(mail)
        fake.play("smtp/healthy")
        with pytest.raises(ValueError, match="before the last play"):
            fake.explain(mail)

    def test_an_exchange_that_is_too_long_ago(self, fake: FakeSMTP, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(trail, "DECISIONS", 0)
        with Raw(fake) as raw:
            says(raw, "EHLO client.test", "MAIL FROM:<a@x.test>", "QUIT")
        fake.settle()
        with pytest.raises(
            ValueError, match="too long ago: .* 100,000 calls, and no more than 64 MiB of what clients said"
        ):
            fake.explain(fake.journal.exchanges[2])

    def test_fired(self, fake: FakeSMTP) -> None:
        assert fake.fired == {"phase[0].rule[0]": (0, 1), "phase[0].rule[1]": (0, 2)}
        with Raw(fake) as raw:
            says(
                raw,
                "EHLO client.test",
                "MAIL FROM:<a@x.test>",
                "RCPT TO:<b@x.test>",
                "RSET",
                "MAIL FROM:<a@x.test>",
                "QUIT",
            )
        fake.settle()
        assert fake.fired == {"phase[0].rule[0]": (1, 0), "phase[0].rule[1]": (1, 1)}


def test_calls_without_effect_are_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "DECISIONS", 1)
    made = engine(document(rule("mail", nth=9, reply=NO)))
    made.feed(Opened("a", "192.0.2.1"), 0.0)
    script = made.feed(mail("a"), 0.0)[0]
    made.feed(Closed("a"), 0.0)  # it holds no slot, and nothing is counted for it alone
    assert said(made.explain(script.decision, "mail")) == [
        "phase[0].rule[0] did not fire: nth, only the 9th: this was the 1st"
    ]


class Requests(Memory):
    """A store that keeps the facts of the decisions it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.facts: list[Mapping[str, object]] = []

    def decide(self, request: DecisionRequest, now: float) -> Decision | None:
        self.facts.append(request.question.facts)
        return super().decide(request, now)


@pytest.mark.parametrize(
    ("conditions", "facts"),
    [
        ({"nth": 9}, {}),
        ({"where": {"sender": "b@*"}}, {"sender": "a@x"}),
        ({"nth": 9, "per": "client"}, {"client": "192.0.2.1"}),
        ({"where": {"user": "ann"}, "over": 3, "per": ["sender", "client"]}, {"user": None, "sender": "a@x", "client": "192.0.2.1"}),
        ({"on": "message", "where": {"header": {"Subject": "sale"}, "sender": "b@*"}}, {"header.subject": "news", "sender": "a@x"}),
    ],
)  # fmt: skip
def test_a_decision_has_the_facts_that_its_rules_read_and_no_others(
    conditions: dict[str, object], facts: dict[str, object]
) -> None:
    """A hundred thousand decisions are remembered: the headers of each request would fill the memory."""
    store, keys = Requests(), {"on": "mail", "reply": NO, **conditions}
    made = Engine(loads(document(rule(**keys))), store=lambda: store)
    made.feed(Opened("a", "192.0.2.1"), 0.0)
    made.feed(Asked("a", keys["on"], {"sender": "a@x", "header": {"x": "a long value", "subject": "news"}}), 0.0)
    assert store.facts == [facts]


def test_a_rule_that_no_request_brings_about_reads_the_facts_of_the_connection() -> None:
    store = Requests()
    made = Engine(
        loads(document(rule("idle", after="1m", where={"client": "192.0.2.1"}, reply=BYE))), store=lambda: store
    )
    made.feed(Opened("a", "192.0.2.1"), 0.0)
    assert [script.moment for script in made.feed(Tick(), 61.0)] == ["idle"]
    assert store.facts == [{"client": "192.0.2.1"}]
