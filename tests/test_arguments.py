"""Every assertion checks its arguments when it is called, whatever the client has done: here no client ever came."""

from __future__ import annotations

import smtplib
from functools import partial

import pytest

from notnow import FakeFTP, FakeHTTP, FakeSMTP, ManualClock, ScenarioError, WaitTimeoutError
from notnow.conduct.judging import UnknownRuleError
from notnow.servers.base.fake import Fake

WHOLE = [-1, 1.5, "1", True, None, [1], (1, 2)]
TIMES = ["1 hour", "5x", "soon", "", -1, float("nan"), True, [1], "-5s"]
PAIRS = [(60, 20), (1,), (1, 2, 3), ("2m", "1 hour"), ("1h", "1m"), (True, 2), [1, 2]]
WORDS = [1, True, None, ["exponential"]]
MISTAKES: dict[str, dict[str, list[object]]] = {  # an assertion -> an argument -> values that it cannot have
    "assert_delivered": {"times": WHOLE, "to": [1, "", ["b@x.test"]], "subject": [1, ["x"]]},
    "assert_not_delivered": {"to": [1, ""], "subject": [1]},
    "message": {"to": [1, ""], "subject": [1]},
    "assert_retried": {
        "times": [0, -1, 1.5, "1", True, (3, 1), (1,), (1, "2"), (-1, 2), [1, 2]],
        "within": [*TIMES, (1, 2)],
        "first_delay": [*TIMES, *PAIRS],
        "backoff": [*WORDS[:2], *WORDS[3:], "exponentail", "", "Exponential"],
    },
    "assert_new_connection_after": {"code": [*WHOLE, 42, 399, 600]},
    "assert_never_exceeded": {"connections": WHOLE},
    "assert_gave_up": {"after": [*TIMES, None, (1, 2)]},
    "assert_fell_back_to": {"within": TIMES},
    "assert_conduct": {"level": [*WORDS, "shuold", "MUST"]},
}
CASES = [
    pytest.param(name, argument, value, id=f"{name}-{argument}-{value!r}")
    for name, arguments in MISTAKES.items()
    for argument, values in arguments.items()
    for value in values
]


@pytest.fixture(scope="module")
def fakes():
    clock = ManualClock()
    return {"smtp": FakeSMTP(clock=clock), "other": FakeSMTP(clock=clock)}


@pytest.mark.parametrize(("name", "argument", "value"), CASES)
def test_a_wrong_argument_is_told(fakes: dict[str, Fake], name: str, argument: str, value: object) -> None:
    call = getattr(fakes["smtp"], name)
    if name == "assert_fell_back_to":
        call = partial(call, fakes["other"])
    with pytest.raises((ValueError, TypeError)) as caught:
        call(**{argument: value})
    said = str(caught.value)
    assert said.startswith(f"{argument} is ")
    assert "allowed: " in said
    assert value == "" or any(
        repr(one) in said for one in (value, *(value if isinstance(value, (tuple, list)) else ()))
    )


@pytest.mark.parametrize("code", [400, 599])
def test_any_refusal_has_a_code_to_ask_for(fakes: dict[str, Fake], code: int) -> None:
    with pytest.raises(AssertionError, match=f"after a {code}, but nobody connected"):
        fakes["smtp"].assert_new_connection_after(code)


@pytest.mark.parametrize(
    ("call", "meant"),
    [
        (lambda fake: fake.assert_retried(backoff="exponentail"), "did you mean 'exponential'?"),
        (lambda fake: fake.assert_retried(within="1 hour"), "did you mean '1h'?"),
        (lambda fake: fake.assert_gave_up(after="5 days"), "did you mean '5d'?"),
        (lambda fake: fake.assert_retried(first_delay=("30 sec", 60)), "did you mean '30s'?"),
        (lambda fake: fake.assert_conduct(level="shuold"), "did you mean 'should'?"),
        (lambda fake: fake.journal.count("conect"), "did you mean 'connect'?"),
    ],
)
def test_the_nearest_is_named(fakes: dict[str, Fake], call, meant: str) -> None:
    with pytest.raises(ValueError, match="allowed: ") as caught:
        call(fakes["smtp"])
    assert meant in str(caught.value)


def test_rules_and_other_fakes_are_checked(fakes: dict[str, Fake]) -> None:
    fake = fakes["smtp"]
    for rule in (1, None, ["smtp.*"]):
        with pytest.raises(TypeError, match="a rule is "):
            fake.assert_conduct(rule)  # type: ignore[arg-type]
    with pytest.raises(UnknownRuleError):
        fake.assert_conduct("smtp.no-such-rule")
    for other in ("backup", None, fake.journal):
        with pytest.raises(TypeError, match="other is .*; allowed: the fake"):
            fake.assert_fell_back_to(other)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="other is this very fake"):
        fake.assert_fell_back_to(fake)
    with pytest.raises(ValueError, match="clocks of their own"):
        fake.assert_fell_back_to(FakeSMTP(clock=ManualClock()))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"name": 1}, "name"),
        ({"name": "x", "content": 1}, "content"),
        ({"name": "x", "content": ["a"]}, "content"),
        ({"name": "x", "size": "3"}, "size"),
        ({"name": "x", "size": -3}, "size"),
        ({"name": "x", "sha256": b"ab"}, "sha256"),
        ({"name": "x", "sha256": "ab"}, "sha256"),
    ],
)
def test_what_is_asked_of_a_file_is_checked(arguments: dict[str, object], word: str) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{word} is "):
        FakeFTP().assert_stored(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("fake", [FakeSMTP, FakeFTP, FakeHTTP])
def test_a_moment_that_the_protocol_lacks_is_told(fake: type[Fake]) -> None:
    journal = fake().journal
    for moment in ("conect", "", "reqest", 1, None):
        with pytest.raises(ValueError, match=f"there is no moment of {fake.protocol} "):
            journal.count(moment)  # type: ignore[arg-type]
    assert journal.count("connect") == journal.count("any") == 0


def test_any_counts_commands() -> None:
    with FakeSMTP() as fake:
        with smtplib.SMTP(fake.host, fake.port, timeout=5) as client:
            client.noop()
            client.docmd("BOGUS")
            client.vrfy("x")
        assert fake.journal.count("any") == 4  # and QUIT; VRFY is known to have come though no rule can act there
        assert fake.journal.count("vrfy") == 1


# ---- what makes a fake ---------------------------------------------------------------------------


def wsgi(environ, start_response):
    return [b"x"]


class Flask:
    def __call__(self, environ, start_response):
        return [b"x"]


def asgi_2(scope):
    return None


async def asgi(scope, receive, send):
    pass


BUILT = [
    (lambda: FakeSMTP(scenario="smtp/overload"), "the first argument, by position, as in FakeSMTP('smtp/overload')"),
    (lambda: FakeSMTP(outage="5s"), "a scenario with that knob as the first argument"),
    (lambda: FakeSMTP(clok=1), "did you mean 'clock'?"),
    (lambda: FakeHTTP(app=wsgi), "a WSGI application: wrap it in asgiref.wsgi.WsgiToAsgi"),
    (lambda: FakeHTTP(app=Flask()), "a WSGI application"),
    (lambda: FakeHTTP(app=partial(wsgi)), "a WSGI application"),
    (lambda: FakeHTTP(app=asgi_2), "an application of ASGI 2"),
    (lambda: FakeHTTP(app=lambda: None), "called with scope, receive and send"),
    (lambda: FakeHTTP(app="main:app"), "import it"),
    (lambda: FakeSMTP("smtp/too-many-connections", cap=0), "knob 'cap' is 0, so no client ever gets in"),
    (lambda: FakeFTP("ftp/proftpd-max-clients", cap=0), "knob 'cap' is 0"),
    (lambda: FakeFTP(files={"a": "3MBB"}), "files: 'a' is '3MBB', which looks like a size"),
    (lambda: FakeFTP(files={"a": "3 MB"}), "b'3 MB'"),
]


@pytest.mark.parametrize(("make", "words"), BUILT)
def test_a_fake_that_cannot_be_made_says_why(make, words: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        make()
    assert words in str(caught.value)


def test_what_is_an_app_is_taken() -> None:
    class App:
        async def __call__(self, scope, receive, send): ...

    for app in (asgi, App(), partial(asgi), lambda *args: asgi(*args), App().__call__):
        FakeHTTP(app=app)


@pytest.mark.parametrize("fake", [FakeSMTP, FakeFTP, FakeHTTP])
def test_a_url_is_there_when_it_listens(fake: type[Fake]) -> None:
    made = fake()
    with pytest.raises(RuntimeError, match="has no url yet, since it does not listen: use it in a `with` block"):
        _ = made.url
    with made:
        assert made.url.endswith(f"{made.host}:{made.port}")


# ---- messages ------------------------------------------------------------------------------------


def send(fake: FakeSMTP, to: str, subject: str, *, number: int | None = None) -> None:
    with smtplib.SMTP(fake.host, fake.port, timeout=5) as client:
        identity = f"Message-ID: <{number}@x.test>\r\n" if number else ""
        client.sendmail("a@x.test", [to], f"{identity}Subject: {subject}\r\n\r\nhello")


class TestOneMessage:
    def test_by_recipient_and_by_subject(self) -> None:
        with FakeSMTP() as fake:
            fake.assert_not_delivered()
            fake.assert_delivered(times=0)
            send(fake, "b@x.test", "=?utf-8?q?gr=C3=BC=C3=9Fe?=", number=1)
            send(fake, "c@x.test", "invoice", number=2)
            send(fake, "c@x.test", "invoice", number=2)
            fake.assert_delivered(to="B@x.test")
            fake.assert_delivered(subject="grüße")
            fake.assert_delivered(times=2, to="c@x.test", subject="invoice")
            fake.assert_not_delivered(to="d@x.test")
            fake.assert_delivered(times=0, subject="nothing")
            assert fake.message(to="b@x.test")["Subject"] == "grüße"

    def test_the_failures(self) -> None:
        with FakeSMTP() as fake:
            with pytest.raises(
                AssertionError, match="one message to b@x.test, but none was delivered: nobody connected"
            ):
                fake.message(to="b@x.test")
            send(fake, "c@x.test", "invoice", number=2)
            send(fake, "c@x.test", "invoice", number=2)
            for call, words in (
                (lambda: fake.assert_delivered(to="cc@x.test"), "but there was none: mail came for c@x.test"),
                (lambda: fake.message(subject="invoices"), "but there was none: the subjects were 'invoice'"),
                (lambda: fake.message(to="c@x.test"), "but there are 2"),
                (lambda: fake.assert_delivered(to="c@x.test"), "but <2@x.test> to c@x.test was stored twice"),
                (lambda: fake.assert_not_delivered(subject="invoice"), "but twice such a message was stored"),
                (fake.assert_not_delivered, "expected no message to be delivered, but "),
                (lambda: fake.assert_delivered(times=0), "expected no message to be delivered, but "),
            ):
                with pytest.raises(AssertionError) as caught:
                    call()
                assert words in str(caught.value)
                assert "->" in str(caught.value) or "none" in words

    def test_one_that_was_refused_beside_another(self, tmp_path) -> None:
        file = tmp_path / "x.toml"
        file.write_text(
            'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "rcpt"\nwhere = { recipient = "b@*" }\nreply = "450 no"\n'
        )
        with FakeSMTP(file) as fake:
            send(fake, "c@x.test", "x")
            with pytest.raises(smtplib.SMTPRecipientsRefused):
                send(fake, "b@x.test", "x")
            with pytest.raises(AssertionError, match="mail came for c@x.test, and b@x.test was refused with '450 no'"):
                fake.assert_delivered(to="b@x.test")


def test_nothing_delivered_by_the_other_protocols() -> None:
    import ftplib
    import io
    import urllib.request

    with FakeFTP() as ftp:
        ftp.assert_not_delivered()
        with ftplib.FTP() as client:
            client.connect(ftp.host, ftp.port, timeout=5)
            client.login()
            ftp.assert_not_delivered()
            client.storbinary("STOR x", io.BytesIO(b"1"))
        with pytest.raises(AssertionError, match="expected no file to be delivered, but the upload of /x was stored"):
            ftp.assert_not_delivered()
    with FakeHTTP(tls="none") as http:
        http.assert_not_delivered()
        with urllib.request.urlopen(http.url, timeout=5) as answer:
            answer.read()
        http.wait_for(lambda journal: journal.connections[0].ended_by)
        with pytest.raises(AssertionError, match="expected no request to be delivered, but GET "):
            http.assert_not_delivered()


@pytest.mark.parametrize("timeout", [*TIMES, None])
def test_a_time_out_that_cannot_be_is_told_when_a_wait_begins(timeout: object) -> None:
    with FakeSMTP() as fake, pytest.raises((TypeError, ValueError), match=r"timeout is .*; allowed: "):
        fake.wait_for(lambda journal: True, timeout=timeout)  # type: ignore[arg-type]


@pytest.mark.parametrize("predicate", ["connect", None, 1])
def test_a_predicate_that_is_none_is_told_when_a_wait_begins(predicate: object) -> None:
    with FakeSMTP() as fake, pytest.raises(TypeError, match="predicate is .*; allowed: a function of the journal"):
        fake.wait_for(predicate)  # type: ignore[arg-type]


def test_the_time_out_of_a_wait_may_be_a_duration() -> None:
    with FakeSMTP() as fake, pytest.raises(WaitTimeoutError, match="waited 0.05 s in vain"):
        fake.wait_for(lambda journal: False, timeout="50ms")
