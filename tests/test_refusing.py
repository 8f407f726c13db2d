"""Which scripts a bare socket carries out when a client connects."""

from __future__ import annotations

import pytest

from notnow.engine.actions import Close, Hang, Proceed, Send, Wait
from notnow.servers.base.refusing import Refusal, refusal

NO = "421 4.3.2 no"


@pytest.mark.parametrize("how", ["fin", "reset", "abrupt"])
def test_a_close_alone(how):
    assert refusal((Close(how),)) == Refusal(None, b"", how)


def test_one_reply_and_a_close():
    assert refusal((Send((NO,)), Close())) == Refusal(NO, b"421 4.3.2 no\r\n", "fin")
    assert refusal((Send(("421-a", "421 \udce4")), Close())) == Refusal(
        "421-a\n421 \udce4", b"421-a\r\n421 \xe4\r\n", "fin"
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
