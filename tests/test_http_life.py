"""The life of a FakeHTTP and of its app: starting, stopping, playing on, and errors of either."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from http_client import H1, H2, one, rules, then
from notnow import FakeError, FakeHTTP, FakeSMTP, ManualClock, RealClock, ScenarioError, StartError
from notnow.journal import ConnectionClose
from notnow.servers import by_protocol
from notnow.servers.http import bridge as fake_module
from notnow.servers.http.session import HTTPSession

pytestmark = pytest.mark.usefixtures("each_loop")

both = pytest.mark.parametrize("version", [H1, H2], ids=["h1", "h2"])


class App:
    """An app with a lifespan that tells what it has met."""

    def __init__(self, at_start: str = "complete", at_end: str = "complete") -> None:
        self.at_start, self.at_end = at_start, at_end
        self.met: list[str] = []
        self.threads: set[int] = set()
        self.states: list[dict[str, object]] = []

    async def __call__(self, scope, receive, send):
        self.threads.add(threading.get_ident())
        if scope["type"] == "http":
            self.states.append(scope["state"])
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"app's"})
            return
        for stage, outcome in (("startup", self.at_start), ("shutdown", self.at_end)):
            assert (await receive())["type"] == f"lifespan.{stage}"
            self.met.append(stage)
            scope["state"]["met"] = list(self.met)
            if outcome == "raises":
                raise ValueError("of mine")
            if outcome == "stays":
                await asyncio.Event().wait()
            await send({"type": f"lifespan.{stage}.{outcome}", "message": "of mine"})


class TestLifespan:
    def test_it_begins_before_the_first_request_and_ends_after_the_last(self):
        app = App()
        fake = FakeHTTP(app=app)
        assert app.met == []
        for turn in range(2):
            with fake, H2(fake) as client:
                assert app.met[2 * turn :] == ["startup"]
                assert client.get().body == b"app's"
            assert app.met[2 * turn :] == ["startup", "shutdown"]
        assert app.states[0] == {"met": ["startup"]}
        assert threading.get_ident() not in app.threads

    def test_a_state_is_copied_for_each_request(self):
        app = App()
        with FakeHTTP(app=app) as fake, H2(fake) as client:
            client.get()
            app.states[0]["mine"] = 1
            client.get()
            assert "mine" not in app.states[1]

    def test_an_app_that_fails_to_start(self):
        app = App(at_start="failed")
        fake = FakeHTTP(app=app)
        for _ in range(2):
            with pytest.raises(StartError, match="the app has failed to start.*of mine"):
                fake.start()
            assert not fake.running
        app.at_start = "complete"
        with fake, H2(fake) as client:
            assert client.get().status == 200

    def test_an_app_that_takes_for_ever_to_start(self, monkeypatch):
        monkeypatch.setattr("notnow.servers.http.hypercorn_parts.CONFIG.startup_timeout", 0.1)
        with pytest.raises(StartError, match="the app has failed to start"):
            FakeHTTP(app=App(at_start="stays")).start()

    def test_an_app_without_an_ear_for_it(self):
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            await App()(scope, receive, send)

        with FakeHTTP(app=app) as fake, H1(fake) as client:
            assert client.get().body == b"app's"
        with FakeHTTP(app=App(at_start="raises")) as fake, H1(fake) as client:
            assert client.get().body == b"app's"

    def test_an_app_that_fails_to_end(self):
        fake = FakeHTTP(app=App(at_end="failed")).start()
        with pytest.raises(FakeError, match="of mine"):
            fake.stop()
        assert not fake.running

    def test_an_app_that_does_not_end(self, monkeypatch):
        monkeypatch.setattr("notnow.servers.http.hypercorn_parts.CONFIG.shutdown_timeout", 0.1)
        fake = FakeHTTP(app=App(at_end="stays")).start()
        with pytest.raises(FakeError, match="shutdown"):
            fake.stop()
        assert not fake.running
        with FakeHTTP() as other:  # nothing of it is left
            assert other._bridge.runner.run(_others()) == 0

    def test_an_app_that_goes_on_when_it_has_said_that_it_ends(self):
        async def app(scope, receive, send):
            for stage in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{stage}.complete"})
            await asyncio.Event().wait()

        before = time.monotonic()
        with FakeHTTP(app=app):
            pass
        assert time.monotonic() - before < 3

    def test_one_app_for_two_fakes(self):
        app = App()
        with FakeHTTP(app=app) as one_, FakeHTTP(app=app) as two:
            for fake in (one_, two):
                with H1(fake) as client:
                    assert client.get().status == 200


async def _others() -> int:
    return len(asyncio.all_tasks()) - 1


class TestStop:
    """Fast and clean, whoever is there."""

    @contextlib.contextmanager
    def stopping(self, fake: FakeHTTP):
        fake.start()
        try:
            yield
        except BaseException:
            fake.stop()
            raise
        before = time.monotonic()
        fake.stop()
        assert time.monotonic() - before < 1
        assert all(c.ended_by for c in fake.journal.connections)
        assert not fake._bridge.sessions
        assert not fake._bridge.tasks

    @pytest.mark.parametrize("http2", [True, False])
    def test_with_an_idle_pooled_client(self, http2):
        fake = FakeHTTP()
        with self.stopping(fake):
            client = httpx.Client(http2=http2, verify=fake.ssl_context())
            assert client.get(fake.url).status_code == 200
        client.close()

    @both
    @pytest.mark.parametrize("tls", ["none", "implicit"])
    def test_what_an_idle_client_is_told(self, version, tls):
        fake = FakeHTTP(tls=tls)
        with self.stopping(fake):
            client = version(fake)
            assert client.get().status == 200
        if version is H2:
            client.rest()
            assert client.farewells == [(1, "NO_ERROR")]
        else:
            assert client.ended
        client.close()
        assert fake.journal.exchanges[-1].fault == "stopped"

    @both
    @pytest.mark.parametrize("rule", [{"stall": True}, {"delay": "1h"}, {"status": 200, "drip": "1h", "body": "abc"}])
    def test_with_a_request_that_a_rule_holds(self, version, rule):
        fake = FakeHTTP(rules(one("request", **rule)), tls="implicit")
        with self.stopping(fake):
            client = version(fake)
            client.request() if version is H2 else client.ask()
            fake.wait_for(lambda j: j.count("request"))
        client.close()

    @both
    @pytest.mark.parametrize("how", ["never answers", "streams", "waits for the body", "will not be cancelled"])
    def test_with_a_busy_app(self, version, how):
        async def app(scope, receive, send):
            assert scope["type"] == "http"
            if how == "never answers":
                await asyncio.Event().wait()
            elif how == "waits for the body":
                while (await receive())["type"] == "http.request":
                    pass
            elif how == "will not be cancelled":
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            else:
                await send({"type": "http.response.start", "status": 200})
                while True:
                    await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})

        fake = FakeHTTP(app=app)
        with self.stopping(fake):
            client = version(fake)
            if version is H2:
                client.request(method="POST", end=False)
            else:
                client.ask(method="POST", headers=[("content-length", "3")])
            fake.wait_for(lambda j: j.count("request"))
            fake.settle()
        client.close()

    def test_amid_handshakes_and_half_requests(self):
        fake = FakeHTTP()
        with self.stopping(fake):
            clients = [H1(fake, tls=False), H1(fake), H2(fake, hello=False), H2(fake)]
            clients[0].send(b"\x16\x03\x01")
            clients[1].send(b"GET / HT")
            clients[2].send(b"PRI * HT")
        for client in clients:
            client.close()

    def test_with_a_hundred_clients(self):
        fake = FakeHTTP()
        with self.stopping(fake):
            with ThreadPoolExecutor(10) as pool:
                clients = list(pool.map(lambda i: (H1, H2)[i % 2](fake), range(100)))
            for client in clients:
                assert client.get().status == 200
        for client in clients:
            client.close()


class TestPlay:
    @both
    def test_live_connections_stay(self, version):
        with FakeHTTP(tls="none") as fake, version(fake) as client:
            assert client.get().status == 200
            fake.play(rules(one("request", status=421)))
            assert client.get().status == 421
            with fake.playing(rules(one("request", status=503))):
                assert client.get().status == 503
            assert client.get().status == 421
            assert len(fake.journal.connections) == 1

    def test_enter_reaches_them(self):
        with FakeHTTP(tls="none") as fake, H2(fake) as client, H1(fake) as other:
            assert client.get().status == other.get().status == 200
            fake.play(rules(one("enter", goaway="ENHANCE_YOUR_CALM")))
            client.rest()
            assert client.farewells == [(1, "ENHANCE_YOUR_CALM")]
            assert other.ended

    def test_what_is_under_way_is_finished_as_it_began(self):
        with FakeHTTP(rules(one("request", after_bytes=2, status=421)), tls="none") as fake, H2(fake) as client:
            number = client.request(method="POST", end=False)
            client.ping()
            fake.play(rules())
            client.data(number, b"123", end=True)
            assert client.answer(number).status == 200

    def test_max_streams_of_new_connections(self):
        with FakeHTTP(tls="none") as fake:
            with H2(fake) as client:
                client.ping()
                fake.play(rules(head="[server]\nmax_streams = 3\n"))
                assert client.get().status == 200
                assert client.settings[3] == 100
            with H2(fake) as client:
                client.ping()
                assert client.settings[3] == 3

    def test_certificates_of_new_connections(self):
        head = '[server]\ntls = "implicit"\n[certificate.a]\nnames = ["%s"]\n'
        with FakeHTTP(rules(head=head % "a.test")) as fake:
            with H2(fake) as client:
                assert client.certificate() == ("a.test",)
            fake.play(rules(head=head % "b.test"))
            with H2(fake) as client:
                assert client.certificate() == ("b.test",)

    def test_phases_by_the_clock(self):
        texts = [one("request", status=503, headers={"retry-after": "{left.seconds}"}), then("well")]
        with (
            FakeHTTP(rules(*texts, phase='lasts = "10m"'), tls="none", clock=ManualClock()) as fake,
            H2(fake) as client,
        ):
            assert client.get().headers["retry-after"] == "600"
            fake.clock.advance("4m")
            assert client.get().headers["retry-after"] == "360"
            fake.clock.advance("6m")
            assert client.get().status == 200

    def test_a_date_is_the_scenario_s(self):
        with FakeHTTP(tls="none", clock=ManualClock()) as fake, H2(fake) as client:
            before = client.get().headers["date"]
            fake.clock.advance("400d")
            assert (
                client.get().headers["date"][-12:-4] != before[-12:-4]
                or before[8:16] != client.get().headers["date"][8:16]
            )


class TestOptions:
    def test_its_name_and_class(self):
        assert by_protocol("http") is FakeHTTP
        with FakeHTTP(tls="none") as fake:
            assert (fake.protocol, fake.name, fake.journal.protocol) == ("http", "http", "http")
            assert repr(fake) == f"<FakeHTTP http/healthy, {fake.url}>"

    def test_options_of_others(self):
        for bad in ({"users": {}}, {"tls": "starttls"}, {"app": 1}, {"files": {}}, {"no_such_knob": 1}):
            with pytest.raises(ScenarioError):
                FakeHTTP(**bad)
        with pytest.raises(ScenarioError, match="is a scenario for smtp"):
            FakeHTTP("smtp/overload")
        with pytest.raises(ScenarioError):
            FakeSMTP(app=App())

    def test_in_an_event_loop(self):
        async def main() -> None:
            async with FakeHTTP(clock=RealClock(100)) as fake:
                async with httpx.AsyncClient(http2=True, verify=fake.ssl_context()) as client:
                    assert (await client.get(fake.url)).status_code == 200
                await fake.await_for(lambda j: j.connections[0].ended_by == "client")

        asyncio.run(main())

    def test_an_error_of_ours_is_told(self, monkeypatch):
        monkeypatch.setattr(HTTPSession, "_carry_out", None)
        fake = FakeHTTP(tls="none").start()
        with H2(fake) as client:
            client.request()
            with contextlib.suppress(ConnectionResetError):
                client.rest()
        with pytest.raises(FakeError, match="the http fake itself failed"):
            fake.stop()

    def test_patience_with_apps(self):
        """An app has its own time-outs first, so that it is they who tell."""
        from notnow.servers.base.runner import PATIENCE
        from notnow.servers.http.hypercorn_parts import CONFIG

        assert CONFIG.startup_timeout < fake_module.STARTUP
        assert CONFIG.shutdown_timeout < PATIENCE


class TestTheLastAnswer:
    """RFC 9112 §9.6: a server that will close says so in its last answer, and processes no request after it."""

    LATE = one("request", where={"path": "/late"}, delay="4s")

    def playing(self, **enter: object) -> FakeHTTP:
        closing = then("two", one("enter", delay="10s", **enter))
        return FakeHTTP(rules(self.LATE, closing), clock=ManualClock(), tls="none")

    @pytest.mark.parametrize(("close", "how"), [(True, "fin"), ("reset", "reset")])
    def test_a_late_answer_amid_a_late_close(self, close, how):
        """Its head is decided when it is sent, and not when its request was read."""
        with self.playing(close=close) as fake, H1(fake) as client:
            assert "connection" not in client.get().headers
            client.ask("/late")
            fake.wait_for(lambda j: j.count("request") == 2)
            fake.next_phase()
            fake.clock.advance(4)
            answer = client.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            client.ask("/more")
            fake.settle()
            fake.clock.advance(5)
            connection = fake.journal.connections[0]
            assert connection.ended_by is None  # the close keeps its time
            fake.clock.advance(1)
            assert how == "reset" or client.ended
            fake.wait_for(lambda j: j.connections[0].ended_by == "fake")
            assert fake.journal.count("request") == 2
            assert connection.exchanges[-1].end == ConnectionClose(how)
            assert connection.failure is None
            assert "GET /more" in connection.unread

    def test_a_pipelined_request_behind_it_is_not_the_client_s_fault(self):
        with self.playing(close=True) as fake, H1(fake) as client:
            client.ask("/late")
            client.ask("/more")
            fake.wait_for(lambda j: j.count("request") == 1)
            fake.next_phase()
            fake.clock.advance(4)
            assert client.answer().headers["connection"] == "close"
            fake.settle()
            fake.clock.advance(6)
            assert client.ended
            assert fake.journal.connections[0].failure is None

    @pytest.mark.parametrize("body", [b"", b"x" * 300_000])
    def test_an_early_answer_to_a_client_that_asked_for_a_close_is_followed_by_it(self, body):
        """The answer of a rule leaves before the end of its request has been read."""
        with FakeHTTP(rules(one("request", status=421)), tls="none") as fake, H1(fake) as client:
            client.ask(body=body, headers=[("Connection", "close")])
            assert client.answer().status == 421
            assert client.ended

    def test_an_answer_before_the_phase_keeps_the_connection(self):
        with self.playing(close=True) as fake, H1(fake) as client:
            client.ask("/late")
            fake.wait_for(lambda j: j.count("request") == 1)
            fake.clock.advance(4)
            assert "connection" not in client.answer().headers
            fake.next_phase()
            fake.clock.advance(10)
            assert client.ended

    def test_over_http2_a_goaway_says_it(self):
        with self.playing(close=True) as fake, H2(fake) as client:
            stream = client.request("/late")
            fake.wait_for(lambda j: j.count("request") == 1)
            fake.next_phase()
            fake.clock.advance(4)
            assert client.answer(stream).status == 200
            assert client.farewells == []
            fake.clock.advance(6)
            client.rest()
            assert client.farewells == [(stream, "NO_ERROR")]

    def test_a_pipelined_request_behind_an_answer_that_closes(self):
        rule = one("request", where={"path": "/no"}, status=421, close=True)
        with FakeHTTP(rules(rule), tls="none") as fake, H1(fake) as client:
            client.ask("/no")
            client.ask("/more")
            assert client.answer().headers["connection"] == "close"
            assert client.ended
            fake.wait_for(lambda j: j.connections[0].ended_by == "fake")
            assert fake.journal.connections[0].failure is None


@pytest.mark.parametrize("trailers", [False, True])
def test_an_answer_that_a_kick_overtakes_is_not_whole(trailers):
    """The client has got no END_STREAM, or nothing at all: the journal does not say that it has."""

    async def app(scope, receive, send):
        if scope["type"] == "http":
            start = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")][trailers:]}
            await send({**start, "trailers": trailers})
            asyncio.get_running_loop().call_soon(fake._bridge.kick)
            await asyncio.sleep(0)  # its task goes before the one that sends bodies
            await send({"type": "http.response.body", "body": b"abc"})
            if trailers:
                await send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})

    with FakeHTTP(app=app) as fake, H2(fake) as client:
        client.request()
        assert client.end() == "fin"
        fake.settle()
        (exchange,) = [x for x in fake.journal if x.moment == "request"]
    assert (client.answers[1].status, client.answers[1].ended) == (200, False)
    assert (exchange.http.status, exchange.http.whole) == (200, False)
