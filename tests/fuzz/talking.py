"""A client that says an input to a fake: its first two bytes say which scenario plays, and how the bytes are cut.

Of the first byte, bits 0 to 4 choose the scenario, and bit 5 is the target's. Bits 6 and 7 choose what is made of the journal:
nothing, which is quickest (0 and 64), verdicts (128), or reports as well (192).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.fuzz.offline import LOOP, Wire, connect, serving
from tests.fuzz.oracles import readable

from notnow import ManualClock, Scenario
from notnow.language.loading import loads
from notnow.servers.base.fake import Fake

ADVANCE = 30.0  # seconds of scenario time after an input: delays end, stalls do not
LINGER = 60.0  # seconds that pass for a closing connection


def scenarios(protocol: str, *texts: str) -> list[Scenario]:
    """The healthy server of a protocol, and one for each text of rules."""
    head = f'protocol = "{protocol}"\n[[phase]]\nname = "one"\n'
    return [loads(head + text) for text in ("", *texts)]


def rule(on: str, does: str, **more: str) -> str:
    lines = "".join(f"{key} = {value}\n" for key, value in more.items())
    return f'[[phase.rule]]\non = "{on}"\n{does}\n{lines}'


class Talk:
    """A client's connection, and what its input says of it."""

    def __init__(self, data: bytes, plays: Sequence[Scenario], make: Callable[..., Fake], **options: Any) -> None:
        self.choice, self.size, self.data = data[0], data[1], data[2:]
        self.scenario = plays[self.choice % 32 % len(plays)]
        self.fake = make(self.scenario, clock=ManualClock(), seed=1, **options)

    def pieces(self) -> Iterator[bytes]:
        """The input, whole or in pieces of as many bytes as its second byte says."""
        size = self.size if 0 < self.size < 0x7E else len(self.data) or 1
        for at in range(0, len(self.data), size):
            yield self.data[at : at + size]

    def run(self, during: Callable[[Wire], object] | None = None) -> Wire:
        """Say it all, let time pass, leave, and stop the fake. Raises for anything that fails."""
        with self.conversation() as wire:
            for piece in self.pieces():
                wire.say(piece)
                LOOP.settle()
                if during is not None:
                    during(wire)
        return wire

    @contextmanager
    def conversation(self) -> Iterator[Wire]:
        """The client's connection: its block says something. Then time passes, the client leaves, and the fake stops."""
        with serving(self.fake):
            wire = connect(self.fake)
            yield wire
            self.fake.clock.advance(ADVANCE)
            wire.end()
            LOOP.settle()
            LOOP.wait(LINGER)
        if self.choice >= 128:  # it takes most of the time
            readable(self.fake, draws=self.choice >= 192)
