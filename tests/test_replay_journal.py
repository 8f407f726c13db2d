"""A recorded run, played again: over the whole catalogue, the same client meets the same replies at the same places."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from live import SEED, SPEED, Live
from live_ftp import FTP
from live_http import HTTP
from live_smtp import SMTP
from notnow import FakeSMTP, ManualClock, RealClock, Scenario
from notnow.chaos.replay import entries, journal, stretches, writing
from notnow.language import catalogue
from notnow.language.loading import loads
from smtp_client import Raw
from test_catalogue_live import every_variant

LIVE: dict[str, Live] = {"smtp": SMTP, "ftp": FTP, "http": HTTP}
main_python = pytest.mark.skipif(
    os.environ.get("NOTNOW_TEST_CLIENTS") == "python", reason="what a scenario does is the same on every Python"
)


def run(scenario: str | Scenario, name: str, knobs: dict[str, Any]) -> Any:
    """The fake after a careful client, and what else the scenario takes, have met it; it has stopped."""
    live = LIVE[name.partition("/")[0]]
    case = live.case(name)
    given = {**case.knobs, **knobs} if isinstance(scenario, str) else {}
    clock = RealClock(SPEED) if case.fast else ManualClock()
    with live.fake(scenario, clock=clock, seed=SEED, **given) as fake:
        if case.witness:
            case.witness(fake)
        client = live.client(fake, case, knobs, **_options(name, {**case.knobs, **knobs}))
        with contextlib.ExitStack() as stack:
            if case.holding:
                stack.enter_context(case.holding(fake))
            if not case.stays:
                waits = client.wait
                client.wait = lambda span: (stack.close(), waits(span))
            live.deliver(client, case)
        fake.settle()
        return fake


def _options(name: str, knobs: dict[str, Any]) -> dict[str, Any]:
    """What the client is told of the scenario: in the second run it cannot ask for the knobs."""
    way = str(knobs.get("stage", catalogue.scenario(name).knobs.get("stage"))).upper()
    found: dict[str, Any] = {"ways": (way, "PASV")} if way in ("EPSV", "PORT", "EPRT") else {}
    return found | ({"patience": 0.25} if LIVE[name.partition("/")[0]].case(name).times_out(knobs) else {})


def replayed(fake: Any, *left_out: str) -> str:
    """The scenario of a journal. `left_out` are keys that its `play` entry does not have."""
    out = io.StringIO()
    fake.journal.export(out)
    lines = [_without(line, left_out) for line in out.getvalue().splitlines()]
    found = entries.read(lines, "run.jsonl")
    return writing.document(journal.recording(found, "run.jsonl", len(lines)), "run.jsonl")


def _without(line: str, keys: tuple[str, ...]) -> str:
    told = json.loads(line)
    return json.dumps({k: v for k, v in told.items() if told["event"] != "play" or k not in keys})


def places(fake: Any) -> list[tuple[object, ...]]:
    """What each exchange was and what was said there, without the ports and dates that differ from run to run."""
    return [
        (x.connection.number, x.moment, _same(x.request), _same(x.reply), str(x.end or ""), x.stored)
        for x in fake.journal
        if not x.stopped and not (x.moment == "body" and not x.fault)  # of a rule that does nothing there
    ]


def _same(text: str | None) -> str:
    """Ports differ from run to run, and so does which of 150 and 125 comes: that of the data connection, or after it."""
    text = re.sub(
        r"^(150 .*about to open|125 Data connection).*", "1xx", text or "", flags=re.MULTILINE | re.IGNORECASE
    )
    text = re.sub(r"^(150|125) FILE", "1xx FILE", text)
    return re.sub(r"\d+,\d+\)|\|\|\|\d+\||\|\d+\|$|:\d+|,\d+,\d+$|REST \d+|position \d+", "…", text)


def _variants() -> Iterator[Any]:
    """One variant of each scenario; with NOTNOW_TEST_VARIANTS=all, each of them."""
    told = set()
    for one in every_variant():
        name, knobs = one.values
        if os.environ.get("NOTNOW_TEST_VARIANTS") == "all" or name not in told:
            told.add(name)
            yield one


@main_python
@pytest.mark.parametrize(("name", "knobs"), list(_variants()))
def test_the_same_client_meets_the_same_again(name: str, knobs: dict[str, Any]) -> None:
    first = run(name, name, knobs)
    if not any(x.rule for x in first.journal):
        return  # of healthy, and of those that a careful client never meets
    again = run(loads(replayed(first), name="replayed"), name, knobs)
    assert places(again) == places(first)


BARE: list[tuple[str, dict[str, Any]]] = [
    ("smtp/overload", {}),
    ("smtp/at-stage", {"stage": "rcpt"}),
    ("smtp/bare-close", {"stage": "message", "how": "reset"}),
    ("smtp/bare-close", {"stage": "ehlo"}),
    ("smtp/greylisting", {}),
    ("smtp/gmail-unusual-rate", {}),
    ("smtp/kept-then-421", {}),
    ("smtp/idle-timeout", {}),
    ("smtp/maintenance", {}),
    ("ftp/overload", {}),
    ("ftp/open-after-421", {"stage": "retr"}),
    ("ftp/at-stage", {"stage": "login"}),
    ("http/misdirected-times", {}),
    ("http/rate-limited", {}),
    ("http/goaway-mid-request", {}),
    ("http/stream-reset", {"stage": "request"}),
]


@main_python
@pytest.mark.parametrize(("name", "knobs"), BARE, ids=[name for name, _ in BARE])
def test_words_and_closes_are_told_without_the_scenario(name: str, knobs: dict[str, Any]) -> None:
    first = run(name, name, knobs)
    text = replayed(first, "toml")
    assert "does not have the scenario" in text
    again = run(loads(text, name="replayed"), name, knobs)
    assert places(again) == places(first)


# ---- phases, and what somebody did by hand -----------------------------------------------------------


def document(fake: Any, *left_out: str) -> dict[str, Any]:
    return tomllib.loads(replayed(fake, *left_out))


def connects(fake: FakeSMTP) -> str:
    with Raw(fake) as raw:
        return raw.reply()


def phases(found: dict[str, Any]) -> list[tuple[str, str | None, list[str]]]:
    """The phases: name, length, and the moments of their rules."""
    return [(one["name"], one.get("lasts"), [rule["on"] for rule in one.get("rule", [])]) for one in found["phase"]]


def test_somebody_goes_on_to_the_next_phase_by_hand() -> None:
    with FakeSMTP("smtp/overload", outage="1h", clock=ManualClock()) as fake:
        connects(fake)
        fake.clock.advance("5m")
        fake.next_phase()
        connects(fake)
        assert phases(document(fake)) == [("overloaded", "300s", ["connect"]), ("recovered", None, [])]


def test_somebody_plays_another_scenario() -> None:
    with FakeSMTP("smtp/overload", outage="1h", clock=ManualClock()) as fake:
        connects(fake)
        fake.clock.advance("90s")
        fake.play("smtp/ip-blocked")
        assert connects(fake).startswith("451")
        found = phases(document(fake))
        assert found[:1] == [("overloaded", "90s", ["connect"])]
        assert found[1][0] == "blocked"
        assert found[1][2] == ["connect"]


def test_somebody_cuts_everybody_off() -> None:
    with FakeSMTP(clock=ManualClock()) as fake:
        with Raw(fake).hello() as raw, Raw(fake).hello() as other:
            fake.clock.advance("10s")
            fake.kick()
            assert raw.reply().startswith("421")
            assert other.reply().startswith("421")
        connects(fake)
        found = document(fake)
    assert phases(found) == [("healthy", "10s", []), ("healthy", None, ["enter"])]
    (rule,) = found["phase"][1]["rule"]
    assert rule["reply"].startswith("421 4.3.2 fake.notnow.test ")


UNTIL = """
protocol = "smtp"
[[phase]]
name = "first"
until = { connect = 2 }
[[phase.rule]]
on = "connect"
over = 0
within = "1h"
reply = "421 one of the first two"
[[phase]]
name = "then"
[[phase.rule]]
on = "connect"
over = 1
within = "1h"
reply = "421 {limit} an hour"
"""


def test_a_phase_ends_by_its_count_again() -> None:
    with FakeSMTP(loads(UNTIL), clock=ManualClock()) as fake:
        heard = [connects(fake)[:3] for _ in range(6)]
        assert heard == ["421", "421", "220", "421", "421", "421"]
        first, then = document(fake)["phase"]
    assert first["until"] == {"connect": 2}
    assert [(rule["first"], rule["reply"]) for rule in first["rule"]] == [(2, "421 one of the first two")]
    assert then["rule"] == [{"on": "connect", "after": 1, "first": 4, "reply": "421 1 an hour"}]


def test_a_port_is_that_of_the_new_server() -> None:
    text = 'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\nnth = 1\nreply = "421 not at {port}"\n'
    with FakeSMTP(loads(text)) as fake:
        assert connects(fake) == f"421 not at {fake.port}"
        (rule,) = document(fake)["phase"][0]["rule"]
    assert rule["reply"] == "421 not at {port}"


def test_an_exception_stays_one_before_a_rule_for_all() -> None:
    text = (
        'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\nnth = 2\n'
        '[[phase.rule]]\non = "connect"\nreply = "421 no"\n'
    )
    with FakeSMTP(loads(text)) as fake:
        assert [connects(fake)[:3] for _ in range(3)] == ["421", "220", "421"]
        found = document(fake)["phase"][0]["rule"]
    assert found == [{"on": "connect", "nth": 2}, {"on": "connect", "reply": "421 no"}]


def test_what_met_everybody_in_a_phase_that_ended_meets_everybody_again() -> None:
    with FakeSMTP("smtp/overload", outage="1h", clock=ManualClock()) as fake:
        connects(fake)
        connects(fake)
        fake.clock.advance("1h")
        connects(fake)
        found = document(fake, "toml")
    assert found["phase"][0] == {
        "name": "overloaded",
        "lasts": "3600s",
        "rule": [{"on": "connect", "reply": "421 4.3.2 All server ports are busy"}],
    }


def test_a_journal_that_has_dropped_its_first_exchanges_says_so() -> None:
    with FakeSMTP("smtp/overload", journal_limit=2) as fake:
        for _ in range(5):
            connects(fake)
        text = replayed(fake)
    assert "# The journal lacks its first 3 exchanges, so the numbers of events count from there.\n" in text


def test_a_reply_that_the_journal_has_cut_ends_where_it_was_cut() -> None:
    long = [f"421-{'x' * 300} {n}" for n in range(4)]
    text = f'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\nreply = {[*long, "421 end"]}\n'
    with FakeSMTP(loads(text)) as fake:
        connects(fake)
        (rule,) = document(fake, "toml")["phase"][0]["rule"]
    assert rule["reply"] == [*long[:2], long[2].replace("421-", "421 ")]


def test_tls_is_as_it_was() -> None:
    with FakeSMTP("smtp/overload", tls="starttls") as fake:
        connects(fake)
        assert document(fake)["server"] == {"tls": "starttls"}


def test_a_rule_for_silence_stands_as_it_stood() -> None:
    with FakeSMTP("smtp/idle-timeout", timeout="30s", clock=ManualClock()) as fake:
        with Raw(fake).hello() as raw:
            fake.clock.advance("30s")
            assert raw.reply().startswith("421")
        (rule,) = document(fake)["phase"][0]["rule"]
    assert rule == {"on": "idle", "after": "30s", "reply": "421 4.4.2 {host} Error: timeout exceeded"}


def test_errors_are_counted_as_the_engine_counts_them() -> None:
    """A refusal that closes is none: nothing can be said after it."""
    text = (
        'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "connect"\nnth = 1\nreply = "421 no"\n'
        '[[phase.rule]]\non = "error"\nnth = 2\nreply = "421 too many errors"\n'
    )
    with FakeSMTP(loads(text)) as fake:
        assert connects(fake) == "421 no"
        with Raw(fake).hello() as raw:
            assert [raw.say("BOGUS")[:3], raw.say("RCPT TO:<a@b.test>")[:3], raw.reply()] == [
                "500",
                "503",
                "421 too many errors",
            ]
        assert document(fake)["phase"][0]["rule"][1] == {"on": "error", "nth": 2, "reply": "421 too many errors"}


def test_a_command_that_finds_the_phase_over_belongs_to_the_next() -> None:
    """Its exchange has its place in the order before the engine notices the time."""
    lines = [
        entries.Line("play", 1, text="own"),
        entries.Line("exchange", 2, moment="connect", phase="busy"),
        entries.Line("exchange", 3, 60.0, moment="connect", phase="free"),
        entries.Line("phase", 4, 60.0, text="free"),
        entries.Line("exchange", 5, 61.0, moment="connect", phase="free"),
    ]
    assert [(one.name, [x.index for x in one.found]) for one in stretches.cut(lines)] == [
        ("busy", [2]),
        ("free", [3, 5]),
    ]
