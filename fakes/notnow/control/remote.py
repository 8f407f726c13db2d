"""`notnow.connect`: fakes that run in another process, as the objects that local fakes are."""

from __future__ import annotations

import base64
import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Self

from notnow import true_time
from notnow.clock import Cancellable, Clock
from notnow.conduct import arguments, messages
from notnow.conduct.assertions import Assertions
from notnow.conduct.files import FileAssertions
from notnow.conduct.messages import MessageAssertions
from notnow.conduct.requests import RequestAssertions
from notnow.control.client import Client
from notnow.control.remote_files import File, RemoteFiles
from notnow.engine.trail import Explanation
from notnow.errors import ControlError, WaitTimeoutError
from notnow.journal import Exchange, Journal
from notnow.journal.transport import unpack
from notnow.language.loading import load, loads
from notnow.language.scenario import Scenario
from notnow.servers import by_protocol
from notnow.servers.base import async_libraries, tls
from notnow.servers.base.driving import Firings
from notnow.servers.http.hosts import Hosts
from notnow.servers.smtp.message import Envelope, Message
from notnow.servers.smtp.parsing import parsed

POLL = 0.02  # real seconds between two looks of `wait_for`
OPTIONS = frozenset(
    {"group", "speed", "ttl", "host", "port", "tls", "users", "files", "seed", "journal_limit", "shared"}
)


def connect(url: str, token: str | None = None) -> Remote:
    """The servers of `notnow serve --control`, at the URL that it printed.

        remote = notnow.connect("http://127.0.0.1:8421")
        with remote.start("smtp/overload", outage="1h", speed=0) as smtp:
            run_my_client(smtp.host, smtp.port)
            smtp.clock.advance("1h")
            smtp.assert_delivered()

    Raises ControlError if no control API answers there, or wants another token; ValueError for what is no URL.
    """
    remote = Remote(Client(url, token))
    remote.client.check()
    return remote


class Remote:
    """The servers of a control API."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._clocks: dict[str, RemoteClock] = {}  # by their groups: servers that share one can be compared

    def __repr__(self) -> str:
        return f"<Remote {self.client.url}>"

    @property
    def servers(self) -> dict[str, RemoteFake]:
        """The servers that run, by their names."""
        return {one["name"]: self._fake(one) for one in self.client.get("/v1/servers")["servers"]}

    def __getitem__(self, name: str) -> RemoteFake:
        """The server of this name. Raises ControlError if there is none."""
        return self._fake(self.client.get(f"/v1/servers/{name}"))

    def __getattr__(self, name: str) -> RemoteFake:
        """A server by its name: `remote.primary`. Raises AttributeError if there is none."""
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except ControlError as error:
            raise AttributeError(str(error)) from None

    def start(
        self, scenario: str | Path | Scenario | None = None, /, *, name: str | None = None, **given: Any
    ) -> RemoteFake:
        """Start a server; use it in a `with` block, at the end of which it stops.

        `scenario` is a name of the catalogue there, the path of a file here, or a Scenario; nothing is a healthy SMTP
        server. Options are `group speed ttl host port tls users files seed journal_limit shared`; other keywords are knobs.
        """
        options = {key: value for key, value in given.items() if key in OPTIONS}
        body = {**_asked(scenario, {k: v for k, v in given.items() if k not in OPTIONS}), **options, "name": name}
        body = {key: value for key, value in body.items() if value is not None}
        return self._fake(self.client.call("POST", "/v1/servers", body).json())

    def _fake(self, told: Mapping[str, Any]) -> RemoteFake:
        """The server, with the assertions that a local fake of its protocol has."""
        clock = self._clocks.setdefault(told["group"], RemoteClock(self.client))
        clock.servers = [*(name for name in clock.servers if name != told["name"]), told["name"]]
        local = by_protocol(str(told["protocol"]))
        kind = next((kind for has, kind in _CLASSES.items() if issubclass(local, has)), RemoteFake)
        return kind(self.client, clock, told)

    def advance(self, by: float | str | timedelta) -> None:
        """Advance the clocks of all servers."""
        self.client.call("POST", "/v1/clock/advance", {"by": arguments.time("by", by)})


def _asked(scenario: str | Path | Scenario | None, knobs: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request that says what to play."""
    if isinstance(scenario, Scenario):
        return {"toml": scenario.text, "knobs": {**scenario.knobs, **knobs}}
    if scenario is None:
        return {"knobs": dict(knobs)} if knobs else {}
    if str(scenario).endswith(".toml"):
        return _asked(load(Path(scenario), knobs=knobs), {})
    return {"scenario": str(scenario), "knobs": dict(knobs)}


class RemoteClock(Clock):
    """The clock of a group of servers in another process."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self.servers: list[str] = []  # those that have it; some may have been stopped

    def now(self) -> float:
        while True:
            try:
                return float(self._client.get(f"/v1/servers/{self.servers[-1]}")["now"])
            except ControlError:
                if len(self.servers) == 1:
                    raise
                self.servers.pop()

    def advance(self, by: float | str | timedelta) -> None:
        """Move the clock there, with everything that is due on the way."""
        span = arguments.time("by", by)
        self.now()  # so that the last server is one that runs
        self._client.call("POST", "/v1/clock/advance", {"by": span, "servers": self.servers[-1:]})

    def call_at(self, when: float, loop: Any, callback: Callable[[], object]) -> Cancellable:
        raise NotImplementedError("nothing is timed here: the fake runs in another process")


class RemoteFake(Assertions):
    """A fake in another process: what a local one has, over HTTP."""

    def __init__(self, client: Client, clock: RemoteClock, told: Mapping[str, Any]) -> None:
        self._client, self.clock = client, clock
        self.name, self.protocol = str(told["name"]), str(told["protocol"])
        self.host, self.port, self.url, self.tls = (
            str(told["host"]),
            int(told["port"]),
            str(told["url"]),
            str(told["tls"]),
        )
        self.group, self.seed = str(told["group"]), int(told["seed"])
        self._ca_pem: str | None = told["ca_pem"]
        self._path = f"/v1/servers/{self.name}"
        self._etag, self._read = "", Journal(self.clock, server=self.name, protocol=self.protocol)
        self._scenario: Scenario | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ControlError):  # its time was over, or somebody has stopped it
            self.stop()

    def stop(self) -> None:
        """Stop the server. Its journal can still be judged. Raises ControlError if it has been stopped."""
        with contextlib.suppress(ControlError):  # which the call below raises as well
            self._refresh()
        self._client.call("DELETE", self._path)
        self._stopped = True

    def _state(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._client.get(self._path)
        return found

    @property
    def running(self) -> bool:
        """True until it is stopped, here or there."""
        try:
            self._state()
        except ControlError:
            return False
        return True

    @property
    def ca_file(self) -> str:
        """The path of a PEM file with the CA that clients should trust. Raises ValueError for a server without TLS."""
        if self._ca_pem is None:
            raise ValueError(f"{self.name} does not speak TLS, so there is no CA to trust")
        return tls.file_of(self._ca_pem.encode())

    # ---- scenario ------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        """The name of the phase that is playing."""
        return str(self._state()["phase"])

    @property
    def scenario(self) -> Scenario:
        """The scenario that is playing."""
        self._refresh()
        assert self._scenario is not None, "a snapshot has a scenario"
        return self._scenario

    def play(self, scenario: str | Path | Scenario, /, *, ttl: float | str | None = None, **knobs: Any) -> None:
        """Swap the scenario; after `ttl` of real time the one from before comes back. Raises ScenarioError."""
        body = {**_asked(scenario, knobs), **({} if ttl is None else {"ttl": ttl})}
        self._client.call("PUT", f"{self._path}/scenario", body)

    @contextlib.contextmanager
    def playing(self, scenario: str | Path | Scenario, /, **knobs: Any) -> Iterator[Self]:
        """Play a scenario for the length of a `with` block, then the one from before."""
        before = self.scenario
        self.play(scenario, **knobs)
        try:
            yield self
        finally:
            self.play(before)

    def next_phase(self) -> None:
        """Go on to the next phase of the scenario by hand."""
        self._client.call("POST", f"{self._path}/next-phase")

    def kick(self) -> int:
        """Cut off every live connection; the number of them."""
        return int(self._client.call("POST", f"{self._path}/kick").json()["kicked"])

    def reset(self) -> None:
        """Forget the past: the journal, and everything that clients have stored. The scenario goes on."""
        self._client.call("POST", f"{self._path}/reset")

    def settle(self, patience: float | None = None) -> None:  # noqa: ARG002
        """Return when everything that is due, or has arrived, has been carried out."""
        self._refresh()

    # ---- what happened -------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:  # type: ignore[override]
        """The journal as it is now. While nothing has happened there, this is the same object each time."""
        self._refresh()
        return self._read

    def _refresh(self) -> None:
        if self._stopped:
            return
        answer = self._client.call("GET", f"{self._path}/snapshot", etag=self._etag)
        if answer.status == 304:
            return
        told = answer.json()
        self._etag = answer.headers.get("etag", "")
        self._read = unpack(told["journal"], self.clock)
        about = told["scenario"]
        self._scenario = loads(about["toml"], name=about["name"], knobs=about["knobs"])

    def explain(self, exchange: Exchange) -> list[Explanation]:
        """Why each rule that looks at this moment fired at this exchange, or the first condition that did not hold."""
        found = self._client.get(f"{self._path}/exchanges/{exchange.index}/why")["rules"]
        return [Explanation(one["rule"], one["fired"], one["why"]) for one in found]

    @property
    def fired(self) -> dict[str, Firings]:
        """How often each rule has fired since the last `play`, and how often it still can, by its key path."""
        found = self._client.get(f"{self._path}/rules")["rules"]
        return {one["rule"]: Firings(one["fired"], one["left"]) for one in found}

    def wait_for(self, predicate: Callable[[Journal], object], timeout: float | str | timedelta = 5.0) -> None:
        """Wait until `predicate(journal)` holds, at most `timeout` of real time. Raises WaitTimeoutError.

        Inside a running event loop the form is `await fake.await_for(…)`.
        """
        if async_libraries.running() is not None:
            raise RuntimeError("wait_for() would block the running event loop; use `await fake.await_for(…)`")
        self._wait(predicate, timeout)

    async def await_for(self, predicate: Callable[[Journal], object], timeout: float | str | timedelta = 5.0) -> None:  # noqa: ASYNC109
        """`wait_for`, inside an event loop. `predicate` is called in another thread."""
        await async_libraries.in_thread(lambda: self._wait(predicate, timeout))

    def _wait(self, predicate: Callable[[Journal], object], timeout: float | str | timedelta) -> None:
        from notnow.conduct.pictures.timeline import render

        seconds = arguments.time("timeout", timeout)
        deadline = true_time.monotonic() + seconds
        while not predicate(self.journal):
            if true_time.monotonic() >= deadline:
                seen = render([self._read])
                raise WaitTimeoutError(f"waited {seconds:g} s in vain; this is what happened:\n{seen}")
            time.sleep(POLL)


class RemoteSMTP(RemoteFake, MessageAssertions):
    """An SMTP server in another process."""

    @property
    def messages(self) -> list[Message]:
        """The accepted mail, in the order in which it came."""
        found: list[Message] = []
        after: int | None = 0
        while after is not None:
            page = self._client.get(f"{self._path}/messages", after=after, encoding="base64")
            found += map(_message, page["messages"])
            after = page["next"]
        return found

    def message(self, *, to: str | None = None, subject: str | None = None) -> Message:
        """The one accepted message that is for the recipient `to` and has this `subject`. Raises AssertionError."""
        __tracebackhide__ = True
        found = messages.one(self, to, subject)
        assert isinstance(found, Message)
        return found


def _message(told: Mapping[str, Any]) -> Message:
    content, recipients = base64.b64decode(told["content"]), tuple(told["recipients"])
    return parsed(Envelope(told["sender"], recipients, content, told["at"], told["connection"], told["user"]))


class RemoteFTP(RemoteFake, FileAssertions):
    """An FTP server in another process."""

    @property
    def files(self) -> RemoteFiles:
        """The files of the server, to read."""
        told = self._client.get(f"{self._path}/files")["files"]
        return RemoteFiles(self._client, self._path, {one["path"]: File(one["size"], one["partial"]) for one in told})


class RemoteHTTP(RemoteFake, RequestAssertions, Hosts):
    """An HTTP server in another process."""


_CLASSES: Mapping[Any, type[RemoteFake]] = {  # by the assertions of the local fake
    MessageAssertions: RemoteSMTP,
    FileAssertions: RemoteFTP,
    RequestAssertions: RemoteHTTP,
}
