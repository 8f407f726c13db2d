"""Which scripts a bare socket carries out when a client connects."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from notnow import ManualClock
from notnow.engine.actions import Close, Hang, Proceed, Send, Wait
from notnow.engine.engine import Engine
from notnow.journal import ConnectionClose
from notnow.language.loading import loads
from notnow.servers import by_protocol
from notnow.servers.base.refusing import Refusal, refusal
from playbook import document, phase, rule

NO = "421 4.3.2 no"


@pytest.mark.parametrize("how", ["fin", "reset", "abrupt"])
def test_a_close_alone(how):
    assert refusal((Close(how),)) == Refusal(None, b"", ConnectionClose(how))


def test_one_reply_and_a_close():
    assert refusal((Send((NO,)), Close())) == Refusal(NO, b"421 4.3.2 no\r\n", ConnectionClose())
    assert refusal((Send(("421-a", "421 \udce4")), Close())) == Refusal(
        "421-a\n421 \udce4", b"421-a\r\n421 \xe4\r\n", ConnectionClose()
    )


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (Proceed(),),
        (Send((NO,)),),
        (Hang(),),
        (Send((NO,), drip=0.5), Close()),
        (Send((NO,)), Close("reset")),
        (Send((NO,)), Close("abrupt")),
        (Wait(1.0), Close()),
        (Send((NO,)), Send((NO,)), Close()),
        (Close(), Send((NO,))),
    ],
    ids=repr,
)
def test_what_needs_a_session(steps):
    assert refusal(steps) is None


class TestTheSameRefusalForEach:
    """A refusal that is kept ready leaves in the journal, and on the wire, what one that is decided anew would."""

    def seen(self, protocol: str, keys: Mapping[str, object], limit: int) -> list[Any]:
        first, second = rule("connect", **keys), rule("connect", close="reset", times=2)
        text = document(phase(first, lasts="10s"), phase(second), protocol=protocol)
        told: list[Any] = []
        with by_protocol(protocol)(loads(text, name="test"), clock=ManualClock(), journal_limit=limit) as fake:
            fake.journal.subscribe(lambda entry: told.append((entry.as_dict(), fake.journal.dropped)))
            said = [self.said(fake) for _ in range(7)]
            kept = [(x.as_dict(), [str(one) for one in fake.explain(x)]) for x in fake.journal.since_play()]
            ends = [c.as_dict() for c in fake.journal.connections]
            found = [told, said, kept, ends, fake.journal.count("connect"), fake.fired]
        for entry, _ in (*told, *kept):
            entry.pop("wall", None)
        return found

    def said(self, fake: Any) -> bytes:
        """What the next client hears; it says something to a fake that has replied. Two seconds go by."""
        with socket.create_connection((fake.host, fake.port)) as sock, contextlib.suppress(ConnectionResetError):
            heard = b""
            heard = sock.recv(100)
            if heard:
                sock.sendall(b"EHLO me\r\n")
                fake.wait_for(lambda j: j.connections[-1].after_bytes)
        fake.clock.advance("2s")
        fake.settle()
        return heard

    @pytest.mark.parametrize("limit", [100, 3])
    @pytest.mark.parametrize(
        ("protocol", "keys"),
        [
            ("smtp", {"reply": NO}),
            ("smtp", {"reply": ["421-a", "421 " + "b" * 9000]}),
            ("ftp", {"reply": NO}),
            ("ftp", {"close": True}),
            ("http", {"close": "abrupt"}),
        ],
        ids=["smtp", "smtp-long", "ftp", "ftp-close", "http-close"],
    )
    def test_it_is_as_if_decided(self, protocol, keys, limit, monkeypatch):
        ready = self.seen(protocol, keys, limit)
        monkeypatch.setattr(Engine, "refuse", lambda *_: None)
        assert self.seen(protocol, keys, limit) == ready
