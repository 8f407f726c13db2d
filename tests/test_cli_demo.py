"""`notnow demo`, and the two senders in it."""

from __future__ import annotations

import random
import re
import smtplib
from email.message import EmailMessage
from pathlib import Path

import pytest
from click.testing import CliRunner

from notnow import FakeSMTP, ManualClock
from notnow.cli import demo_senders, group
from notnow.language.loading import loads

NEXT = "next: notnow list · notnow serve smtp/overload · notnow demo --source · README"


@pytest.fixture
def message() -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Message-ID"] = "a@client.test", "b@server.test", "<1@client.test>"
    return made


# ---- the command -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def output() -> str:
    result = CliRunner().invoke(group, ["demo"], prog_name="notnow")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_the_demo_ends_with_two_verdicts_and_what_is_next(output: str) -> None:
    *_, careless, careful, blank, last = output.splitlines()
    assert re.fullmatch(
        r"careless sender: LOST THE MAIL: 20 connections in \S+, each told 421, then it gave up and kept nothing\.",
        careless,
    )
    assert re.fullmatch(
        r"careful sender: DELIVERED ONCE: 3 connections during the outage, "
        r"with waits of 1m \d+s, 2m \d+s, 4m \d+s, and through after .+\.",
        careful,
    )
    assert (blank, last) == ("", NEXT)


def test_the_timeline_of_the_demo_is_to_scale(output: str) -> None:
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.split()[:2] == ["time", "server"]) + 1
    timeline = lines[start : lines.index("", start)]
    assert [line[:7].strip() for line in timeline[:4]] == ["0s", "30s", "1m", "1m 30s"]
    assert [line[9:12] for line in timeline] == ["421"] * 10 + ["220"] * (len(timeline) - 10)
    assert "20 times 421, gives up" in timeline[0]
    attempts = [i for i, line in enumerate(timeline) if re.search(r"\S", line[53:]) and line[55] in "x+"]
    assert attempts[0] == 0
    assert attempts[1] in (2, 3)  # a minute, or a quarter more
    assert timeline[-1].endswith("+ 250: delivered")


def test_the_demo_is_plain_in_a_pipe(output: str) -> None:
    assert "\x1b" not in output


def test_the_source_of_the_senders_can_be_read() -> None:
    result = CliRunner().invoke(group, ["demo", "--source"], prog_name="notnow")
    assert result.stdout == Path(demo_senders.__file__).read_text("utf-8")


def test_the_source_is_coloured_on_a_terminal() -> None:
    environment = {"FORCE_COLOR": "1", "NO_COLOR": None, "TERM": "xterm-256color", "COLUMNS": "140"}
    result = CliRunner().invoke(group, ["demo", "--source"], prog_name="notnow", env=environment)
    assert "\x1b[" in result.stdout
    assert "def careful(" in re.sub(r"\x1b\[[0-9;]*m", "", result.stdout)


# ---- the senders -------------------------------------------------------------------------------


def test_the_careful_sender_comes_back_after_growing_waits(message: EmailMessage) -> None:
    clock = ManualClock()
    with FakeSMTP("smtp/overload", outage="10m", clock=clock) as fake:
        chance = random.Random(1)
        sent = demo_senders.careful(fake.host, fake.port, message, sleep=clock.advance, jitter=chance.uniform)
        assert sent
        fake.assert_delivered(times=1)
        fake.assert_retried(times=4, first_delay=(60, 75), backoff="exponential")


def test_a_seed_gives_the_same_waits(message: EmailMessage) -> None:
    def waits(seed: int) -> list[float]:
        clock, found = ManualClock(), []

        def sleep(seconds: float) -> None:
            found.append(seconds)
            clock.advance(seconds)

        with FakeSMTP("smtp/overload", outage="10m", clock=clock) as fake:
            demo_senders.careful(fake.host, fake.port, message, sleep=sleep, jitter=random.Random(seed).uniform)
        return found

    assert waits(1) == waits(1) != waits(2)


def test_the_careful_sender_gives_up_in_the_end(message: EmailMessage) -> None:
    clock = ManualClock()
    with FakeSMTP("smtp/overload", outage="30d", clock=clock) as fake:
        sent = demo_senders.careful(fake.host, fake.port, message, keep_for=7200, sleep=clock.advance)
        assert not sent
        assert 7200 <= clock.now() <= 7200 + 1.25 * 3600


@pytest.mark.parametrize("moment", ["connect", "mail", "rcpt", "message"])
def test_the_careful_sender_does_not_repeat_what_is_refused_for_good(message: EmailMessage, moment: str) -> None:
    scenario = loads(f'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "{moment}"\nreply = "554 5.7.1 never"\n')
    with FakeSMTP(scenario) as fake:
        assert not demo_senders.careful(fake.host, fake.port, message, sleep=pytest.fail)
        assert fake.journal.count("connect") == 1


def test_the_careless_sender_spends_its_tries_at_once(message: EmailMessage) -> None:
    with FakeSMTP("smtp/overload", outage="10m", clock=ManualClock()) as fake:
        assert not demo_senders.careless(fake.host, fake.port, message, tries=5)
        assert fake.journal.count("connect") == 5
        assert fake.messages == []


def test_either_delivers_to_a_healthy_server(message: EmailMessage) -> None:
    with FakeSMTP() as fake:
        assert demo_senders.careless(fake.host, fake.port, message)
        assert demo_senders.careful(fake.host, fake.port, message, sleep=pytest.fail)
        assert fake.journal.count("connect") == 2


@pytest.mark.parametrize(
    ("error", "permanent"),
    [
        (smtplib.SMTPConnectError(421, "busy"), False),
        (smtplib.SMTPDataError(554, "never"), True),
        (smtplib.SMTPRecipientsRefused({"a": (550, b"no"), "b": (450, b"later")}), False),
        (smtplib.SMTPRecipientsRefused({"a": (550, b"no")}), True),
        (smtplib.SMTPServerDisconnected("gone"), False),
        (ConnectionRefusedError(), False),
    ],
)
def test_what_is_permanent(error: OSError, permanent: bool) -> None:
    assert demo_senders.is_permanent(error) is permanent
