"""An HTTP/2 client with many streams that does anything in any order, beside a model of what became of each request."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hyperframe.frame import PriorityFrame, SettingsFrame
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule
from tests.machines import run

from http_client import H2
from notnow import FakeHTTP
from notnow.bounds import STREAMS

OPEN, ENDED, RESET = "open", "ended", "reset"


class Client(RuleBasedStateMachine):
    """A connection. A request is open until the client ends or resets it."""

    fake: FakeHTTP
    streams = Bundle("streams")

    def __init__(self) -> None:
        super().__init__()
        self.before = self.fake.journal.count("request")
        self.connect()

    def connect(self) -> None:
        self.client, self.states, self.bodies = H2(self.fake), dict[int, str](), dict[int, bytes]()
        self.client.ping()
        self.number = self.fake.journal.connections[-1].number

    def teardown(self) -> None:
        self.client.close()

    # ---- requests --------------------------------------------------------------------------------

    @rule(target=streams, ends=st.booleans())
    def ask(self, ends: bool) -> object:
        if list(self.states.values()).count(OPEN) >= STREAMS - 1:
            return multiple()
        number = self.client.request(f"/{self.client.next}", method="POST", end=ends)
        self.states[number], self.bodies[number] = (ENDED if ends else OPEN), b""
        return number

    @rule(number=streams, data=st.binary(max_size=40), ends=st.booleans())
    def send(self, number: int, data: bytes, ends: bool) -> None:
        if self.states.get(number) != OPEN:
            return
        self.client.data(number, data, ends)
        self.bodies[number] += data
        self.states[number] = ENDED if ends else OPEN

    @rule(number=streams)
    def cancel(self, number: int) -> None:
        if self.states.get(number) in (OPEN, ENDED):
            self.client.rst(number)
            self.states[number] = RESET

    @rule(number=streams)
    def read(self, number: int) -> None:
        """Its answer is the echo of what was sent."""
        if self.states.get(number) == ENDED:
            answer = self.client.answer(number)
            assert (answer.status, answer.reset) == (200, None)
            assert answer.said["body"] == self.bodies[number].decode("utf-8", "replace")
            assert answer.said["path"] == f"/{number}"

    # ---- the rest of the protocol ----------------------------------------------------------------

    @rule()
    def ping(self) -> None:
        self.client.ping()

    @rule(code=st.sampled_from([1, 3, 5, 6, 99]), value=st.sampled_from([16_384, 65_535, 100_000]))
    def set(self, code: int, value: int) -> None:
        self.client.send(SettingsFrame(0, settings={code: value}).serialize())

    @rule(size=st.integers(1, 1000))
    def widen(self, size: int) -> None:
        self.client.more(size)

    @rule(number=streams, on=st.sampled_from([0, 1, 3]))
    def prioritise(self, number: int, on: int) -> None:
        self.client.send(PriorityFrame(number, depends_on=on, stream_weight=3).serialize())

    @rule()
    def go_away(self) -> None:
        """The answers to what was asked still come (RFC 9113 §6.8); then a new connection."""
        self.client.go_away()
        self.hear()
        self.client.close()
        self.before = self.fake.journal.count("request")
        self.connect()

    def hear(self) -> None:
        for number, state in self.states.items():
            if state == ENDED:
                assert self.client.answer(number).status == 200
            elif state == OPEN:
                assert not self.client.answer_so_far(number).over

    # ---- always ----------------------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        """Every whole request is answered once, no other is, and the journal says the same."""
        self.client.ping()
        self.hear()
        assert self.fake.journal.count("request") - self.before == len(self.states)
        (record,) = [one for one in self.fake.journal.connections if one.number == self.number]
        assert record.error is None
        kept = {x.http.path: x for x in record.exchanges if x.http is not None}
        for number, state in self.states.items():
            exchange = kept[f"/{number}"]
            assert (exchange.code == 200) == (state == ENDED) or state == RESET


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeHTTP]:
    with FakeHTTP(tls="none") as fake:
        yield fake


def test_any_order_of_frames(fake: FakeHTTP) -> None:
    Client.fake = fake
    run(Client)
