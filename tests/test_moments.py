"""The moments of a protocol: an adapter tells each of them, and a rule that answers at one has the last word."""

from __future__ import annotations

import ast
import smtplib
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from notnow import FakeError, FakeSMTP, protocols
from notnow.protocols.moment import EVERYWHERE, Moment, command
from notnow.protocols.protocol import Protocol
from notnow.servers.ftp.connection import TLS_COMMANDS
from notnow.servers.smtp.session import SMTPSession
from smtp_client import Raw, one, plain, rules

ADAPTERS = Path(__file__).parents[1] / "fakes" / "notnow" / "servers"


def told(protocol: str) -> Iterator[str]:
    """The moments that the code of an adapter names where it asks the engine: `Asked(id, "body", …)`, `_ask("auth", …)`."""
    for file in sorted((ADAPTERS / protocol).glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name == "Asked" or name.startswith("_ask"):
                    yield from (one.value for one in node.args if isinstance(one, ast.Constant))


def is_command(protocol: str, verb: str) -> bool:
    return hasattr(SMTPSession, f"smtp_{verb}") if protocol == "smtp" else verb in TLS_COMMANDS


def silent(protocol: Protocol) -> list[str]:
    """The moments of a record of which the adapter never tells the engine: a rule that acts there would never fire."""
    known = {*told(protocol.name), *EVERYWHERE}
    covers = {name for moment in protocol.moments.values() for name in moment.within}
    return [
        name
        for name, moment in protocol.moments.items()
        if name not in known | covers and not any(is_command(protocol.name, verb) for verb in moment.verbs)
    ]


@pytest.mark.parametrize("protocol", protocols.every(), ids=lambda protocol: protocol.name)
def test_every_moment_is_a_command_or_told_by_the_adapter(protocol: Protocol) -> None:
    assert silent(protocol) == []


@pytest.mark.parametrize("protocol", protocols.every(), ids=lambda protocol: protocol.name)
@pytest.mark.parametrize(
    "made", [Moment("A moment."), command("A command.", verbs=("SLEEP",))], ids=["moment", "command"]
)
def test_a_moment_that_no_adapter_tells_is_found(protocol: Protocol, made: Moment) -> None:
    """In every protocol."""
    added = replace(protocol, moments={**protocol.moments, "sleep": made})
    assert silent(added) == ["sleep"]


@pytest.mark.parametrize("protocol", protocols.every(), ids=lambda protocol: protocol.name)
def test_an_adapter_tells_moments_that_there_are(protocol: Protocol) -> None:
    assert set(told(protocol.name)) - {*protocol.moments, *protocol.also_counted} == set()


class AsksInPassing(SMTPSession):
    """A session whose author has put a moment before the rest of AUTH, and not around it."""

    async def smtp_NOOP(self, arg: str | None) -> None:
        async def nothing() -> None: ...

        await self._ask("noop", "in passing", nothing)
        await self.push("250 after all")

    async def smtp_VRFY(self, arg: str | None) -> None:
        async def nothing() -> None: ...

        await self._ask("noop", "in passing", nothing)
        await self._ask("quit", "then another", nothing)


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("NOOP", "the session replies after a rule has answered at 'noop'"),
        ("VRFY x", "the session asks at 'quit' after a rule has answered at 'noop'"),
    ],
)
def test_what_follows_the_answer_of_a_rule_is_an_error(monkeypatch: pytest.MonkeyPatch, line: str, error: str) -> None:
    for name in ("smtp_NOOP", "smtp_VRFY"):
        monkeypatch.setattr(SMTPSession, name, vars(AsksInPassing)[name])
    with (
        pytest.raises(FakeError, match=error),
        FakeSMTP(rules(one("noop", nth=2 if line == "NOOP" else 1, reply="454 no"))) as fake,
    ):
        with Raw(fake).hello() as raw:
            assert raw.say(line) == "454 no"
            assert raw.until_end() == ""


def test_the_next_line_of_the_client_may_be_answered() -> None:
    with FakeSMTP(rules(one("noop", first=1, reply="454 no"), one("auth", first=1, reply="454 no"))) as fake:
        with Raw(fake).hello() as raw:
            assert [raw.say("NOOP") for _ in range(2)] == ["454 no", "250 2.0.0 Ok"]
            assert [raw.say(f"AUTH PLAIN {plain('a', 'b')}")[:3] for _ in range(2)] == ["454", "235"]
        with smtplib.SMTP(fake.host, fake.port) as client:
            client.sendmail("a@x.test", "b@x.test", b"x\r\n")
