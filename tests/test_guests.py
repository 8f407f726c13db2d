"""Code of the user that raises in the loop of the fakes: an app, a predicate, a listener. It is told at its own place, and
all other fakes go on.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest

from http_client import H1
from notnow import FakeError, FakeHTTP, FakeSMTP, StartError
from notnow.servers.base import guests as _guests
from smtp_client import MESSAGE, Raw

pytestmark = pytest.mark.usefixtures("each_loop")

OUTCOMES = [pytest.fail.Exception("says the app"), pytest.skip.Exception("says the app")]
ENDINGS = [asyncio.CancelledError("says the app"), SystemExit("says the app"), KeyboardInterrupt("says the app")]
STRAYS = [*OUTCOMES, *ENDINGS]
ALL = [ValueError("says the app"), *STRAYS]


def names(errors: list[BaseException]) -> Any:
    return pytest.mark.parametrize("error", errors, ids=lambda error: type(error).__name__)


def app_that_raises(error: BaseException) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] == "/bad":
            raise error
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    return app


@contextlib.contextmanager
def undisturbed():
    """Two neighbours that were there before, and one that comes after: all serve, and none is blamed."""
    with FakeSMTP(name="neighbour") as mail, FakeHTTP(tls="none", name="other") as web:
        yield
        with Raw(mail).hello() as raw:
            assert raw.deliver(MESSAGE).startswith("250")
        with H1(web) as client:
            assert client.get("/").status == 200
    with FakeSMTP() as late, Raw(late) as raw:
        assert raw.reply().startswith("220")


class TestApps:
    @names(ALL)
    def test_a_request_gets_500_and_the_next_one_its_answer(self, error):
        with undisturbed():
            fake = FakeHTTP(app=app_that_raises(error), tls="none").start()
            with H1(fake) as client:
                assert client.get("/bad").status == 500
            with H1(fake) as client:
                assert client.get("/good").status == 204
            assert "says the app" in fake.journal.exchanges[1].facts.app_error
            with contextlib.suppress(BaseException):
                fake.stop()

    @names(OUTCOMES)
    def test_what_is_said_to_pytest_is_raised_at_stop_as_it_is(self, error):
        with undisturbed(), pytest.raises(type(error), match="says the app"):
            with FakeHTTP(app=app_that_raises(error), tls="none") as fake, H1(fake) as client:
                client.get("/bad")

    @names(ENDINGS)
    def test_an_ending_is_an_error_of_its_fake(self, error):
        """And it ends neither the loop, nor the process of whoever stops the fake."""
        with (
            undisturbed(),
            pytest.raises(FakeError, match=f"that the mine fake has called has raised {type(error).__name__}"),
        ):
            with FakeHTTP(app=app_that_raises(error), tls="none", name="mine") as fake, H1(fake) as client:
                client.get("/bad")

    def test_an_exception_is_the_apps_own_business(self):
        """As on any server: the client sees a 500, the journal and the log tell why."""
        with FakeHTTP(app=app_that_raises(ValueError("x")), tls="none") as fake, H1(fake) as client:
            client.get("/bad")
            assert fake.journal.exchanges[1].facts.app_error == "ValueError: x"

    @names([ValueError("says the task"), *STRAYS])
    def test_a_task_of_the_app_is_the_apps(self, error):
        """It raises when the request has long been answered; nobody waits for it."""

        async def background() -> None:
            raise error

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                tasks.add(asyncio.ensure_future(background()))
                await app_that_raises(error)(scope, receive, send)

        tasks: set[Any] = set()
        with undisturbed():
            fake = FakeHTTP(app=app, tls="none").start()
            with H1(fake) as client:
                assert client.get("/").status == 204
            fake.settle()
            assert all(task.done() for task in tasks)
            tasks.clear()
            fake.settle()
            with contextlib.suppress(FakeError, *{type(e) for e in OUTCOMES}):
                fake.stop()

    def test_a_group_is_searched(self):
        """As a TaskGroup raises it."""
        inner = pytest.fail.Exception("inside")
        group = BaseExceptionGroup("of tasks", [ValueError("x"), BaseExceptionGroup("more", [inner])])
        with pytest.raises(pytest.fail.Exception, match="inside"):
            with FakeHTTP(app=app_that_raises(group), tls="none") as fake, H1(fake) as client:
                assert client.get("/bad").status == 500

    @names(STRAYS)
    @pytest.mark.parametrize("at", ["startup", "shutdown"])
    def test_a_lifespan(self, error, at):
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["type"] == "lifespan"
            for moment in ("startup", "shutdown"):
                await receive()
                if moment == at:
                    raise error
                await send({"type": f"lifespan.{moment}.complete"})

        told = type(error) if error in OUTCOMES else (StartError if at == "startup" else FakeError)
        with undisturbed(), pytest.raises(told, match="says the app"):
            with FakeHTTP(app=app, tls="none"):
                pass


class TestPredicates:
    @names(ALL)
    def test_wait_for_raises_what_the_predicate_has_raised(self, error):
        def predicate(_journal: object) -> None:
            raise error

        with undisturbed(), FakeSMTP() as fake:
            with pytest.raises(type(error), match="says the app"):
                fake.wait_for(predicate)

    @names(ALL)
    def test_await_for_does_too(self, error):
        def predicate(_journal: object) -> None:
            raise error

        async def wait(fake: FakeSMTP) -> BaseException | None:
            try:
                await fake.await_for(predicate)
            except BaseException as raised:
                return raised
            return None

        with undisturbed(), FakeSMTP() as fake:
            assert asyncio.run(wait(fake)) is error


@names(ALL)
def test_a_listener_of_the_journal_is_told_at_its_fake(error):
    def listener(_entry: object) -> None:
        raise error

    with undisturbed():
        fake = FakeSMTP().start()
        fake.journal.subscribe(listener)
        with Raw(fake).hello() as raw:
            assert raw.deliver(MESSAGE).startswith("250")
        with pytest.raises(type(error) if error in OUTCOMES else FakeError, match="says the app"):
            fake.stop()


def test_a_cancelled_task_of_ours_is_no_guest():
    async def cancelled() -> list[bool]:
        found = []

        async def work() -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError as error:
                found.append(_guests.is_ours(error))

        task = asyncio.ensure_future(work())
        await asyncio.sleep(0)
        task.cancel()
        await task
        try:
            raise asyncio.CancelledError
        except asyncio.CancelledError as error:
            found.append(_guests.is_ours(error))
        return found

    assert asyncio.run(cancelled()) == [True, False]


class TestInPytest:
    @pytest.fixture
    def suite(self, pytester: pytest.Pytester) -> pytest.Pytester:
        pytester.makepyfile(
            """
            import socket
            import pytest

            async def app(scope, receive, send):
                if scope["type"] == "http" and scope["path"] == "/fail":
                    pytest.fail("the cart is empty")
                if scope["type"] == "http":
                    pytest.skip("no such feature")

            def ask(fake, path):
                with socket.create_connection((fake.host, fake.port), timeout=10) as s:
                    s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
                    return s.recv(100)

            pytestmark = pytest.mark.notnow("http/healthy", app=app, tls="none")

            def test_fails(fake_http):
                assert ask(fake_http, "/fail").startswith(b"HTTP/1.1 500")

            def test_fails_with_the_words_of_the_app(fake_http):
                assert ask(fake_http, "/fail").startswith(b"HTTP/1.1 200")

            def test_is_skipped(fake_http):
                assert ask(fake_http, "/skip").startswith(b"HTTP/1.1 200")

            @pytest.mark.notnow("smtp/healthy")
            def test_neighbour(fake_smtp):
                pass
            """
        )
        return pytester

    def test_the_test_fails_or_is_skipped_and_no_other(self, suite):
        result = suite.runpytest()
        result.assert_outcomes(failed=2, skipped=1, passed=1)
        result.stdout.fnmatch_lines(["*the cart is empty*"])
        assert str(result.stdout).count("Failed: the cart is empty") >= 2
