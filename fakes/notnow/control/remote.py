"""`notnow.connect`: fakes that run in another process, as the objects that local fakes are."""

from __future__ import annotations

import base64
import contextlib
import email
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from email import policy
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from notnow import true_time
from notnow.clock import Cancellable, Clock
from notnow.conduct import arguments
from notnow.conduct.assertions import Assertions
from notnow.conduct.files import FileAssertions
from notnow.conduct.messages import MessageAssertions
from notnow.conduct.requests import RequestAssertions
from notnow.control.client import Client
from notnow.engine.trail import Explanation
from notnow.errors import ControlError, WaitTimeoutError
from notnow.journal import Exchange, Journal
from notnow.journal.transport import unpack
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.servers import by_protocol
from notnow.servers.base.bridge import Firings
from notnow.servers.smtp.mailbox import Envelope, Message

POLL = 0.02  # real seconds between two looks of `wait_for`
OPTIONS = frozenset({"group", "speed", "ttl", "host", "port", "tls", "users", "files", "seed", "journal_limit"})


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

    def __repr__(self) -> str:
        return f"<Remote {self.client.url}>"

    @property
    def servers(self) -> dict[str, RemoteFake]:
        """The servers that run, by their names."""
        return {one["name"]: _fake(self.client, one) for one in self.client.get("/v1/servers")["servers"]}

    def __getitem__(self, name: str) -> RemoteFake:
        """The server of this name. Raises ControlError if there is none."""
        return _fake(self.client, self.client.get(f"/v1/servers/{name}"))

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
        server. Options are `group speed ttl host port tls users files seed journal_limit`; other keywords are knobs.
        """
        options = {key: value for key, value in given.items() if key in OPTIONS}
        body = {**_asked(scenario, {k: v for k, v in given.items() if k not in OPTIONS}), **options, "name": name}
        body = {key: value for key, value in body.items() if value is not None}
        return _fake(self.client, self.client.call("POST", "/v1/servers", body).json())

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
        return {"toml": Path(scenario).read_text("utf-8-sig"), "knobs": dict(knobs)}
    return {"scenario": str(scenario), "knobs": dict(knobs)}


class RemoteClock(Clock):
    """The clock of a server in another process."""

    def __init__(self, fake: RemoteFake) -> None:
        super().__init__()
        self._fake = fake

    def now(self) -> float:
        return float(self._fake._state()["now"])

    def advance(self, by: float | str | timedelta) -> None:
        """Move the clock there, with everything that is due on the way."""
        body = {"by": arguments.time("by", by), "servers": [self._fake.name]}
        self._fake._client.call("POST", "/v1/clock/advance", body)

    def call_at(self, when: float, loop: Any, callback: Callable[[], object]) -> Cancellable:
        raise NotImplementedError("nothing is timed here: the fake runs in another process")


class RemoteFake(Assertions):
    """A fake in another process: what a local one has, over HTTP."""

    def __init__(self, client: Client, told: Mapping[str, Any]) -> None:
        self._client = client
        self.name, self.protocol = str(told["name"]), str(told["protocol"])
        self.host, self.port, self.url, self.tls = (
            str(told["host"]),
            int(told["port"]),
            str(told["url"]),
            str(told["tls"]),
        )
        self.group, self.seed = str(told["group"]), int(told["seed"])
        self.clock = RemoteClock(self)
        self._ca_pem: str | None = told["ca_pem"]
        self._path = f"/v1/servers/{self.name}"
        self._etag, self._read = "", Journal(self.clock, server=self.name, protocol=self.protocol)
        self._scenario: Scenario | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}, {self.url}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ControlError):  # its time was over, or somebody has stopped it
            self.stop()

    def stop(self) -> None:
        """Stop the server. Raises ControlError if it has been stopped."""
        self._client.call("DELETE", self._path)

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

    @cached_property
    def ca_file(self) -> str:
        """The path of a PEM file with the CA that clients should trust. Raises ValueError for a server without TLS."""
        if self._ca_pem is None:
            raise ValueError(f"{self.name} does not speak TLS, so there is no CA to trust")
        with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
            file.write(self._ca_pem)
        return file.name

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

    def settle(self) -> None:
        """Return when everything that is due, or has arrived, has been carried out."""
        self._refresh()

    # ---- what happened -------------------------------------------------------------------------

    @property
    def journal(self) -> Journal:  # type: ignore[override]
        """The journal as it is now. While nothing has happened there, this is the same object each time."""
        self._refresh()
        return self._read

    def _refresh(self) -> None:
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
        """Wait until `predicate(journal)` holds, at most `timeout` of real time. Raises WaitTimeoutError."""
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


def _message(told: Mapping[str, Any]) -> Message:
    content = base64.b64decode(told["content"])
    lines = content.replace(b"\r\n", b"\n")
    parsed = email.message_from_bytes(lines, policy=policy.default.clone(message_factory=Message))
    assert isinstance(parsed, Message)
    recipients, user = tuple(told["recipients"]), told["user"]
    parsed.envelope = Envelope(told["sender"], recipients, content, told["at"], told["connection"], user)
    return parsed


class RemoteFTP(RemoteFake, FileAssertions):
    """An FTP server in another process."""

    @property
    def files(self) -> RemoteFiles:
        """The files of the server, to read."""
        told = self._client.get(f"{self._path}/files")["files"]
        return RemoteFiles(self._client, self._path, {one["path"]: _File(one["size"], one["partial"]) for one in told})


class _File(NamedTuple):
    size: int
    partial: bool


class RemoteFiles(Mapping[str, bytes]):
    """The files of a server by their paths, as they were when they were asked for; their bytes are read when needed."""

    def __init__(self, client: Client, path: str, known: Mapping[str, _File]) -> None:
        self._client, self._path, self._known = client, path, known

    def __getitem__(self, name: str) -> bytes:
        name = name.removeprefix("/")
        if name not in self._known:
            raise KeyError(f"{name!r}: there is no such file; there are {', '.join(self) or 'none'}")
        return self._client.call("GET", f"{self._path}/files/{name}").body

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.removeprefix("/") in self._known

    @property
    def partial(self) -> tuple[str, ...]:
        """The names of incomplete files."""
        return tuple(name for name, file in self._known.items() if file.partial)

    def size(self, name: str) -> int:
        """How many bytes a file has."""
        return self._known[name.removeprefix("/")].size

    def sha256(self, name: str) -> str:
        """The SHA-256 of a file, as hex."""
        return hashlib.sha256(self[name]).hexdigest()


class RemoteHTTP(RemoteFake, RequestAssertions):
    """An HTTP server in another process."""


_CLASSES: Mapping[Any, type[RemoteFake]] = {  # by the assertions of the local fake
    MessageAssertions: RemoteSMTP,
    FileAssertions: RemoteFTP,
    RequestAssertions: RemoteHTTP,
}


def _fake(client: Client, told: Mapping[str, Any]) -> RemoteFake:
    """The server, with the assertions that a local fake of its protocol has."""
    local = by_protocol(str(told["protocol"]))
    return next((kind for has, kind in _CLASSES.items() if issubclass(local, has)), RemoteFake)(client, told)
