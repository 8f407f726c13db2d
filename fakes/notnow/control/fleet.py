"""The servers of one process by their names: started and stopped, alone or in groups that share a clock.

There is no HTTP here. Every method is for any thread, and may wait for the fakes' thread.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from notnow import true_time
from notnow.clock import AdjustableClock
from notnow.control.feed import Feed
from notnow.errors import NotNowError, NotRunningError, Problem, ScenarioError, unknown
from notnow.journal import Listener
from notnow.language.scenario import Scenario
from notnow.servers import by_protocol
from notnow.servers.base.fake import Fake
from notnow.servers.base.runner import Runner
from notnow.servers.base.stopping import stop_all
from notnow.servers.listening import listening

SERVERS = 1_000  # at a time
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
NAME_HELP = "a letter, then letters, digits, - and _, 64 characters at most"


class NoSuchServerError(NotNowError, LookupError):
    """No server has this name."""


class NameTakenError(NotNowError, ValueError):
    """A server has this name already."""


class FullError(NotNowError, RuntimeError):
    """There are as many servers as there may be."""


@dataclass(frozen=True, slots=True)
class Service:
    """What this process is a replica of: the URL of its Redis, its name, and the clock and the group of all that count there."""

    url: str
    name: str
    clock: AdjustableClock
    group: str


@dataclass(slots=True)
class Member:
    """A server: its fake with the options that were given, its group, and what is to happen at which time of `true_time.monotonic`.

    `service` is the name of the one in which it counts together with other replicas, None if it counts for itself. It stops at `stops_at`; at `returns_at` it plays `before` again.
    """

    fake: Fake
    group: str
    clock: AdjustableClock
    options: Mapping[str, Any] = field(default_factory=dict)
    stops_at: float | None = None
    returns_at: float | None = None
    before: Scenario | None = None
    service: str | None = None


class Fleet:
    """The servers. `feed` gets what happens on them; use it as a context manager, which stops them at the end."""

    def __init__(
        self,
        *,
        seed: int | None = None,
        search_paths: Sequence[str] = (),
        listener: Listener | None = None,
        started: Callable[[], object] = lambda: None,
        numbers: Iterator[int] | None = None,
        service: Service | None = None,
    ) -> None:
        """`listener` is called for every entry of every journal, in the fakes' thread; `started` after every start.

        `numbers` put everything that happens in one order. Servers that are shared count in the `service`.
        """
        self.service = service
        self.seed, self.search_paths, self.listener, self.started = seed, tuple(search_paths), listener, started
        self.feed = Feed()
        self._members: dict[str, Member] = {}
        self._starting: set[str] = set()
        self._lock = threading.Lock()
        self._runner: Runner | None = None
        self._numbers = numbers or itertools.count(1)  # one order of everything that happens, whatever the clocks say

    def __enter__(self) -> Fleet:
        self._runner = Runner.acquire()  # the thread of the fakes lives on between two servers
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stop(self.members())
        finally:
            if self._runner is not None:
                self._runner.release()

    # ---- who is there ----------------------------------------------------------------------------

    def members(self) -> list[Member]:
        """The servers, in the order in which they were started."""
        with self._lock:
            return list(self._members.values())

    def get(self, name: str) -> Member:
        """Raises NoSuchServerError."""
        with self._lock:
            member, names = self._members.get(name), list(self._members)
        if member is None:
            raise NoSuchServerError(str(unknown("server", name, names)))
        return member

    def groups(self, names: Sequence[str] = ()) -> dict[str, list[Member]]:
        """The servers by their groups: those of these names, or all. Raises NoSuchServerError."""
        found: dict[str, list[Member]] = {}
        for member in [self.get(name) for name in names] or self.members():
            found.setdefault(member.group, []).append(member)
        return found

    # ---- start and stop --------------------------------------------------------------------------

    def start(
        self,
        scenario: Scenario,
        *,
        name: str | None = None,
        group: str | None = None,
        speed: float | None = None,
        ttl: float | None = None,
        shared: bool = False,
        kind: type[Fake] | None = None,
        **options: Any,
    ) -> Member:
        """Start a fake, of its protocol's class or of this `kind`; `ttl` is in real seconds.

        A server without a group has one of its own, called as itself. The first server of a group sets the speed of its
        clock, unless it is given one. A server that is `shared` counts together with those of its name on all replicas.
        Raises ScenarioError, StartError, NameTakenError or FullError; then nothing has changed.
        """
        service = self._service_for(name, group) if shared else None
        name = self._reserve(name, scenario.protocol)
        try:
            if service is not None:
                group, options["shared"] = service.group, service.url
            clock = self._clock_of(group or name, speed)
            given = {key: value for key, value in options.items() if value is not None}
            kind = kind or by_protocol(scenario.protocol)
            fake = kind(scenario, name=name, clock=clock, **{"seed": self.seed, **given})
            fake.journal.subscribe(self.feed.put)
            if self.listener is not None:
                fake.journal.subscribe(self.listener)
            fake.start()
            member = Member(fake, group or name, clock, given, _in(ttl), service=service.name if service else None)
            with self._lock:
                self._members[name] = member
        finally:
            with self._lock:
                self._starting.discard(name)
        self.feed.put_server(name, "started", listening(fake))
        self.started()
        return member

    def _reserve(self, name: str | None, protocol: str) -> str:
        if name is not None and not NAME.fullmatch(name):
            raise ScenarioError([Problem(f"name is {name!r}", allowed=NAME_HELP)])
        with self._lock:
            taken = self._members.keys() | self._starting
            if len(taken) >= SERVERS:
                raise FullError(
                    f"{SERVERS} servers are running, and there may be no more; stop some, or give them a ttl"
                )
            if name in taken:
                raise NameTakenError(f"a server is called {name!r} already; allowed: another name, or none")
            name = name or next(n for n in _names(protocol) if n not in taken)
            self._starting.add(name)
            return name

    def _service_for(self, name: str | None, group: str | None) -> Service:
        """Raises ScenarioError if a server of this name and group cannot be shared."""
        if self.service is None:
            hint = "start it with `notnow serve --shared redis://HOST:PORT/0 --control PORT`"
            raise ScenarioError([Problem("shared is true, and this notnow is not a replica of a service", hint=hint)])
        if name is None:
            raise ScenarioError(
                [Problem("shared is true, and there is no name", allowed="the name that it has on all replicas")]
            )
        if group not in (None, self.service.group):
            allowed = f"no group, or {self.service.group!r}, which shows the time of the service"
            raise ScenarioError([Problem(f"shared is true, and group is {group!r}", allowed=allowed)])
        return self.service

    def _clock_of(self, group: str, speed: float | None) -> AdjustableClock:
        with self._lock:
            shared = next((member.clock for member in self._members.values() if member.group == group), None)
        if self.service is not None and group == self.service.group:
            shared = self.service.clock
        if shared is not None and speed is not None and speed != shared.speed:
            found = f"speed is {speed:g}, and the clock of the group {group!r} runs at {shared.speed:g}"
            raise ScenarioError([Problem(found, allowed="no speed, or a group of its own")])
        return shared or AdjustableClock(1.0 if speed is None else speed, self._numbers)

    def stop(self, name: str) -> None:
        """Stop a server and forget it. Raises NoSuchServerError, and FakeError if our own code has failed there."""
        self._stop([self.get(name)])

    def _stop(self, members: Sequence[Member]) -> None:
        with self._lock:
            for member in members:
                self._members.pop(member.fake.name, None)
        try:
            stop_all(member.fake for member in members)
        finally:
            for member in members:
                self.feed.put_server(member.fake.name, "stopped", {})

    # ---- while it runs ---------------------------------------------------------------------------

    def play(self, name: str, scenario: Scenario, ttl: float | None = None) -> Member:
        """Play another scenario; after `ttl` real seconds the one from before comes back. Raises ScenarioError."""
        member = self.get(name)
        before = member.before or member.fake.scenario
        member.fake.play(scenario)
        member.returns_at, member.before = _in(ttl), None if ttl is None else before
        return member

    def advance(self, by: float | str, names: Sequence[str] = ()) -> list[Member]:
        """Advance the clocks of these servers, or of all, with everything that is due on the way; return the servers.

        Every clock is advanced, even if another fails. Raises NoSuchServerError before any is advanced, and
        at the end the error of the first clock that failed.
        """
        groups = self.groups(names).values()
        failed: list[Exception] = []
        for members in groups:
            try:
                members[0].clock.advance(by)
            except Exception as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return [member for members in groups for member in members]

    def catch_up(self) -> None:
        """Return when the journals have everything that has happened until now."""
        for member in self.members():
            with contextlib.suppress(NotRunningError):  # it was stopped meanwhile
                member.fake.catch_up()

    def expire(self, now: float) -> float | None:
        """Do what is due at this time of `true_time.monotonic`; return when to call again, None if nothing is waiting."""
        for member in self.members():
            if member.stops_at is not None and member.stops_at <= now:
                with contextlib.suppress(NoSuchServerError):  # it was stopped meanwhile
                    self.stop(member.fake.name)
            elif member.returns_at is not None and member.returns_at <= now:
                before, member.returns_at, member.before = member.before, None, None
                assert before is not None, "a time to return is set with the scenario to return to"
                member.fake.play(before)
        times = [t for member in self.members() for t in (member.stops_at, member.returns_at) if t is not None]
        return min(times, default=None)


def _in(ttl: float | None) -> float | None:
    return None if ttl is None else true_time.monotonic() + ttl


def _names(protocol: str) -> Iterator[str]:
    """smtp, smtp2, smtp3, …"""
    yield protocol
    for n in range(2, SERVERS + 2):
        yield f"{protocol}{n}"
