"""`Fake`: what users see of a server. Its sockets, sessions and engine are the bridge's; see `notnow.servers.base.bridge`."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from notnow import environment, true_time
from notnow.conduct import arguments
from notnow.conduct.assertions import Assertions
from notnow.engine.trail import Explanation
from notnow.errors import FakeError, NotRunningError, Problem, ScenarioError, WaitTimeoutError, nearest
from notnow.hosts import bracketed
from notnow.journal import Entry, Exchange, Journal
from notnow.language import catalogue
from notnow.language.scenario import Scenario
from notnow.servers.base import async_libraries, guests
from notnow.servers.base.bridge import PATIENCE, Bridge
from notnow.servers.base.driving import Firings
from notnow.servers.base.options import Options
from notnow.servers.base.services import START
from notnow.servers.base.stopping import end_all, stop_all, undisturbed

POLL = 0.02  # real seconds after which a predicate is called again, even if the journal has not grown


class Fake(Assertions):
    """A server of ours that plays a scenario.

    Use it as a context manager, plain or async, or call `start` and `stop`. It lives in a thread of its
    own (shared by all fakes of the process), so plain and asynchronous clients may use it alike.
    """

    protocol: ClassVar[str]
    _option_names: ClassVar[frozenset[str]] = frozenset(
        {"clock", "seed", "host", "port", "tls", "users", "journal_limit", "shared"}
    )
    _bridge: Bridge

    def __init__(self, scenario: str | Path | Scenario | None = None, /, *, name: str = "", **given: Any) -> None:
        """`scenario` is a name of the catalogue, a path, or a Scenario; nothing is a healthy server.

        Server options are `clock seed host port tls users journal_limit shared`; every other keyword is a knob of
        the scenario. Raises ScenarioError for one that is unknown or invalid.
        """
        self._options = Options(self.protocol, self._option_names, environment.settings(given))
        self._find: Callable[..., Scenario] = catalogue.scenario  # how `play` finds a scenario by its name
        self.name = name or self.protocol
        self.clock, self.seed, self.host = self._options.clock, self._options.seed, self._options.host
        self._bridge = self._new_bridge(self._resolve(scenario, self._options.knobs))
        self.journal = self._bridge.journal

    @abstractmethod
    def _new_bridge(self, scenario: Scenario) -> Bridge:
        """The bridge of this adapter, which plays `scenario`."""

    def _resolve(self, scenario: str | Path | Scenario | None, values: Mapping[str, Any]) -> Scenario:
        if isinstance(scenario, Scenario):
            found = scenario.with_knobs(**values)
        elif not scenario and values:
            raise ScenarioError([_for_no_scenario(self.protocol, next(iter(values)), self._option_names)])
        elif not scenario:
            found = catalogue.healthy(self.protocol)
        else:
            found = self._find(str(scenario), **values)
        if found.protocol != self.protocol:
            problem = Problem(f"{found.name!r} is a scenario for {found.protocol}", allowed=f"one for {self.protocol}")
            raise ScenarioError([problem])
        catalogue.tell(found, self._options.given)
        return found

    # ---- life ----------------------------------------------------------------------------------

    def start(self) -> Self:
        """Listen. When this returns, clients can connect. Raises StartError if the address is taken."""
        if self.running:
            return self
        try:
            if self._bridge.kept is not None and self._bridge.prompt:
                self._start()  # wherever a Ctrl-C comes, what there is by then can be undone
            else:
                undisturbed([self], self._start)
            return self
        except BaseException:  # a Ctrl-C, perhaps just after the start
            end_all([self])
            raise

    def _start(self) -> None:
        self._bridge.start()
        self.clock.join(self._bridge)
        environment.current.started(self)

    def stop(self) -> None:
        """Say goodbye to live clients, close everything, and raise FakeError if our own code has failed."""
        stop_all([self])

    def __enter__(self) -> Self:
        try:
            self.start()
            threading.get_ident()  # Python raises a pending Ctrl-C after a call of C: here, and not in `__exit__`
            return self
        except BaseException:
            end_all([self])  # a Ctrl-C after the start: neither the block nor `__exit__` will run
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        except FakeError as ours:
            if error is None:
                raise
            error.add_note(str(ours))
        except BaseException:
            end_all([self])
            raise

    async def __aenter__(self) -> Self:
        return self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await async_libraries.in_thread(lambda: self.__exit__(kind, error, trace))

    # ---- where it is, and how it is set up -------------------------------------------------------

    @property
    def running(self) -> bool:
        """True between `start` and `stop`."""
        return self._bridge.running

    @property
    def port(self) -> int:
        """The port where it listens; 0 before it listens on a port of the system's choice."""
        return self._bridge.port

    @property
    def scenario(self) -> Scenario:
        """The scenario that is playing."""
        return self._bridge.scenario

    @property
    def tls(self) -> str:
        """The TLS mode: "none", "starttls" or "implicit"."""
        return self._bridge.tls

    @property
    def users(self) -> Mapping[str, str] | None:
        """The users who may log in, and their passwords; None lets everybody in."""
        return self._bridge.users

    @property
    def service(self) -> str | None:
        """The name of the service that it is a replica of, and where; None if it counts for itself."""
        return self._bridge.sharing.service

    @property
    def ca_file(self) -> str:
        """The path of the PEM file with the CA that clients should trust."""
        from notnow.servers.base import tls

        return tls.ca_file()

    def __repr__(self) -> str:
        where = self.url if self.running else "not running"
        return f"<{type(self).__name__} {self.scenario.name}, {where}>"

    @property
    def url(self) -> str:
        """The URL of the server. Raises RuntimeError until it listens if the system chooses the port."""
        if not self.port:
            raise RuntimeError(f"this {type(self).__name__} has no url yet, since it does not listen: {START}")
        return f"{self._scheme}://{bracketed(self.host)}:{self.port}"

    @property
    def _scheme(self) -> str:
        """The scheme of its URLs."""
        return f"{self.protocol}s" if self.tls == "implicit" else self.protocol

    # ---- scenario ------------------------------------------------------------------------------

    def play(self, scenario: str | Path | Scenario, /, **knobs: Any) -> None:
        """Swap the scenario: phases, counts and chance start anew.

        Live connections stay, keep their slots, and get what the first phase says on `enter`. The journal
        is marked, not erased. All replicas of a shared service play it. Raises ScenarioError; then nothing has changed.
        """
        found = self._resolve(scenario, knobs)
        self._call(lambda: self._bridge.play(found))
        self._bridge.sharing.settle()

    def _call(self, work: Callable[[], None]) -> None:
        """Do this in the loop's thread, or here while there is none."""
        if self.running:
            self._bridge.runner.call(work)
        else:
            work()

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
        self._bridge.runner.call(self._bridge.next_phase)
        self._bridge.sharing.settle()

    def kick(self) -> int:
        """Cut off every live connection, as an administrator does: 421 and a close, over HTTP/2 a GOAWAY.

        Returns how many there were, here: every replica of a shared service cuts off its own. Clients may connect again at
        once. A request or command that is being answered ends there.
        """
        kicked = self._bridge.runner.call(self._bridge.kick)
        self._bridge.sharing.settle()
        return kicked

    @property
    def phase(self) -> str:
        """The name of the phase that is playing."""
        return self._bridge.phase

    def explain(self, exchange: Exchange) -> list[Explanation]:
        """Why each rule that looks at this moment fired at this exchange, or the first condition of it that did not hold.

        Rules are those of the phase that played, in order; an empty list means that none looks at the moment. Raises
        ValueError for an exchange of another fake, or from before the last `play` or `reset`, or one that is too long ago.
        """
        return self._bridge.explain(exchange)

    @property
    def fired(self) -> dict[str, Firings]:
        """How often each rule has fired since the last `play`, and how often it still can, by its key path."""
        return self._bridge.firings()

    def reset(self) -> None:
        """Forget the past: the journal, and everything that clients have stored. The scenario goes on."""
        self._call(self._bridge.forget)

    def settle(self, patience: float | None = None) -> None:
        """Return when everything that is due, or has arrived, has been carried out.

        Raises TimeoutError if clients keep it busy without a pause for `patience` real seconds (30).
        """
        self._bridge.settle(patience)

    def catch_up(self) -> None:
        """Return when the journal has everything that has happened until now; only workers report later."""

    # ---- waiting -------------------------------------------------------------------------------

    def wait_for(self, predicate: Callable[[Journal], object], timeout: float | str | timedelta = 5.0) -> None:
        """Wait until `predicate(journal)` holds, at most `timeout` of real time: seconds, or a duration such as "1m".

        Raises WaitTimeoutError with what was seen instead, NotRunningError if the fake stops meanwhile, TypeError or
        ValueError for invalid arguments, and RuntimeError inside a running event loop, where the form is `await fake.await_for(…)`.
        """
        if async_libraries.running() is not None:
            raise RuntimeError("wait_for() would block the running event loop; use `await fake.await_for(…)`")
        seconds = _waitable(predicate, timeout)
        self._bridge.runner.run(self._wait(predicate, seconds), patience=seconds + PATIENCE)

    async def await_for(self, predicate: Callable[[Journal], object], timeout: float | str | timedelta = 5.0) -> None:  # noqa: ASYNC109
        """`wait_for`, inside an event loop."""
        seconds, loop = _waitable(predicate, timeout), self._bridge.loop
        work = guests.carried(self._wait(predicate, seconds))
        (await async_libraries.result_of(asyncio.run_coroutine_threadsafe(work, loop))).get()

    async def _wait(self, predicate: Callable[[Journal], object], timeout: float) -> None:  # noqa: ASYNC109
        changed = asyncio.Event()

        def listen(_entry: Entry) -> None:
            changed.set()

        stop = self.journal.subscribe(listen)
        self._bridge.waited_for += 1
        deadline = true_time.monotonic() + timeout
        try:
            while not predicate(self.journal):
                left = deadline - true_time.monotonic()
                if self._bridge.stopped:
                    raise NotRunningError(f"{self.name} was stopped while somebody waited for it")
                if left <= 0:
                    raise WaitTimeoutError(self._waited(timeout))
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), min(left, POLL))
                changed.clear()
        finally:
            self._bridge.waited_for -= 1
            stop()

    def _waited(self, timeout: float) -> str:
        from notnow.conduct.pictures.timeline import render

        return f"waited {timeout:g} s in vain; this is what happened:\n{render([self.journal])}"


def _waitable(predicate: object, timeout: object) -> float:
    """The time-out of `wait_for`, in seconds. Raises TypeError or ValueError, which names the invalid argument."""
    if not callable(predicate):
        allowed = 'a function of the journal, such as lambda journal: journal.count("connect")'
        raise TypeError(f"predicate is {predicate!r}; allowed: {allowed}")
    return arguments.time("timeout", timeout)


def _for_no_scenario(protocol: str, name: str, options: Iterable[str]) -> Problem:
    """The problem of a keyword that is neither a server option nor, without a scenario, a knob."""
    return Problem(
        f"{name!r} is no option of {protocol} servers, and no knob where no scenario is named",
        allowed=f"{', '.join(sorted(options))}; or a scenario with that knob as the first argument",
        nearest=nearest(name, options),
    )
