"""A sample of generated mail clients over real sockets: the verdict on each is the one of the wire without sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from tests.truth import smtp
from tests.truth.properties import Judged
from tests.truth.sockets import SocketLine, SocketWire

if TYPE_CHECKING:
    from tests.truth.client import Task
    from tests.truth.truth import Truth

CLIENTS = 20


class SocketClient(smtp.SMTPClient):
    """Plays a program over sockets: what is in a message has to be said there."""

    def _content(self, task: Task, line: Any, taken: list[smtp.Key]) -> Any:
        mail = task.what
        head = f"Message-ID: <{mail.id}>\r\n" if mail.id else ""
        assert isinstance(line, SocketLine)
        line.content = f"{head}Subject: {mail.number}\r\n\r\nmessage {mail.number}\r\n.\r\n".encode()
        return super()._content(task, line, taken)


class Sockets:
    """`tests.truth.smtp`, over sockets."""

    def __getattr__(self, name: str) -> Any:
        return getattr(smtp, name)

    def play(self, program: smtp.Program, scenario: str) -> tuple[SocketWire, Truth]:
        wire = SocketWire(scenario)
        try:
            return wire, SocketClient(program, wire).play()  # type: ignore[arg-type]
        finally:
            wire.fake.stop()


@seed(1)
@settings(
    max_examples=CLIENTS, phases=[Phase.generate], database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(smtp.programs, smtp.scenarios)
def test_the_same_verdict_over_real_sockets(program: smtp.Program, scenario: str) -> None:
    assume("delay" not in scenario)  # a client that waits for a late reply would have to move the clock meanwhile
    assume(program.workers == 1)  # the order in which sockets of several workers are heard is the system's
    plain, real = Judged(smtp, program, scenario), Judged(Sockets(), program, scenario)  # type: ignore[arg-type]
    assert real.result.word == plain.result.word
    assert outcomes(real) == outcomes(plain)


def outcomes(judged: Judged) -> dict[str, str]:
    return {name: one.outcome for name, one in judged.verdicts.items()}
