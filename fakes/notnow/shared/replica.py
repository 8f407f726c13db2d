"""A replica of a service: what it holds, its lease, and the state of the service as it was last told.

`ask` and what changes its slots are for the thread of the event loop; `news`, `renew` and `settle` for others.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from msgspec.structs import replace

from notnow import true_time
from notnow.engine.questions import PhasePosition, Slot
from notnow.errors import LostError, ScenarioError, StartError
from notnow.language.scenario import Scenario
from notnow.shared.address import Address
from notnow.shared.clock import MICRO, SharedClock
from notnow.shared.encoding import key_text
from notnow.shared.link import Link, Lost, Misfit, words
from notnow.shared.naming import digest, loaded, name_of, told_scenario
from notnow.shared.state import Beat, State, state_of
from notnow.units import show

log = logging.getLogger("notnow.shared")
PAUSE = 0.05  # real seconds between two looks at whether others have come back to a Redis that has just started
LOOK = 0.002  # real seconds between two looks at whether the others are done
_ENDED = Misfit(
    "the service has ended while this replica was away, and another of its name has begun: start this replica again"
)


class Replica:
    """One server of this process as a replica. `on_lost` and `on_back` are told when Redis goes and comes, in the loop's thread."""

    def __init__(self, address: Address, server: str, clock: SharedClock, scenario: Scenario) -> None:
        self.server, self.clock, self._given_address = server, clock, address
        self.starts_with(scenario)
        self.state = State()
        self.lost: str | None = None  # why the service cannot be asked
        self._unreadable: Misfit | None = None  # why its scenario cannot be played
        self.own_keys: dict[str, set[str]] = {}  # connection -> keys that nobody else counts under
        self.on_lost: Callable[[str], None] = lambda _why: None
        self.on_back: Callable[[], None] = lambda: None
        self.on_moved: Callable[[], None] = lambda: None  # in the loop's thread: the service stands elsewhere
        self.on_corrected: Callable[[], None] = lambda: None  # in any thread: the clock was set
        self._held: dict[str, set[str]] = {}  # owner -> keys
        self._key = quote(server, safe="")
        self._introduce()
        self._link: Link | None = None

    # ---- life ------------------------------------------------------------------------------------

    def starts_with(self, scenario: Scenario) -> None:
        """This is what it plays when it joins; a service without a name is called after it."""
        self.origin = told_scenario(scenario)
        self.scenario = scenario
        self.address = self._given_address.named(name_of({self.server: scenario}))

    def _introduce(self) -> None:
        """Take a name that no replica has had."""
        replica, lease = secrets.token_hex(6), int(self.address.lease * 1000)
        self.member = f"{self._key}/{replica}"
        self._given = {"member": self.member, "replica": replica, "server": self._key, "lease": lease}

    @property
    def service(self) -> str:
        """What messages call the service."""
        return f"{self.address.name!r} at {self.address.shown}"

    @property
    def link(self) -> Link:
        assert self._link is not None, "it has joined"
        return self._link

    def join(self) -> int:
        """Become a replica of the service; the number of replicas that have done so. Raises StartError."""
        self._check_clock()
        self._introduce()
        link = Link(self.address, self._key)
        try:
            link.check()
            deadline = true_time.monotonic() + self.address.lease
            while link.has_forgotten and true_time.monotonic() < deadline:
                time.sleep(PAUSE)  # others, if they live, tell it the state that it has lost
            word, *rest = link.call("join", self._as_joins(None))
            if word == "other":
                raise StartError(self._another_plays(json.loads(rest[0])["name"]))
            if word == "speed":
                raise StartError(self._another_speed(rest[0]))
            self.note_state(rest[0])
            self._set_clock(link)
        except Lost as error:
            link.close()
            raise link.refusal(error) from None
        except StartError:
            link.close()
            raise
        self._link = link
        self.clock.voices.append(self)
        return int(rest[1])

    def _check_clock(self) -> None:
        for other in self.clock.voices:
            if other.service != self.service:
                raise StartError(
                    f"shared: its clock is that of the service {other.service} already, and {self.service} has a time of "
                    "its own; allowed: a clock for each service"
                )

    def _set_clock(self, link: Link) -> None:
        """Show the time of the service, from what a few answers have in common. Raises Lost."""
        told = [beat for _ in range(5) if (beat := self._beat(link)) is not None]
        if not told:
            raise Misfit("its lease has ended at once; allowed: a longer lease")
        earliest, latest = max(one.earliest for one in told), min(one.latest for one in told)
        if self.clock.voices:
            self.clock.correct(earliest, latest)
        else:
            self.clock.align((earliest + latest) / 2, self.state.advanced)

    def _beat(self, link: Link) -> Beat | None:
        """Renew the lease; None if it has ended. Raises Lost."""
        before = true_time.monotonic()
        word, *rest = link.call("renew", self._given)
        after = true_time.monotonic()
        if word != "ok":
            return None
        elapsed = rest[1] / MICRO
        return Beat(int(rest[0]), before - elapsed, after - elapsed)

    def _another_speed(self, theirs: str) -> str:
        return (
            f"shared: the service {self.service} runs at a speed of {theirs}, "
            f"and this fake at {self.clock.speed:g}; allowed: the same speed, or another name"
        )

    def _another_plays(self, theirs: str) -> str:
        ours = json.loads(self.origin)["name"]
        what = f"{theirs!r}" if theirs != ours else f"{theirs!r} with other knobs, or of another version"
        return (
            f"shared: the service {self.service} plays {what}, and this fake {ours!r}; "
            "allowed: the same scenario and knobs on all replicas, or another name (--shared-name, or ?name=… in the URL)"
        )

    def _as_joins(self, knows: object) -> dict[str, Any]:
        return {
            **self._given,
            "run": secrets.token_hex(8),
            "digest": digest(self.origin),
            "scenario": self.state.scenario if knows else self.origin,
            "speed": f"{self.clock.speed:g}",
            "knows": knows,
            "slots": [(key, owner) for owner, keys in self._held.items() for key in keys],
        }

    def join_again(self) -> bool:
        """Take a lease again, with all slots of the connections that live. False if Redis is lost."""
        state, position = self.state, self.state.position
        knows = {
            "run": state.run,
            "elapsed": int(self.clock.elapsed * MICRO),
            "advanced": state.advanced,
            "version": state.version,
            "play": state.play,
            "kicks": state.kicks,
            "position": (position.phase, position.lap, position.since),
        }
        try:
            word, *rest = self.link.call("join", self._as_joins(knows))
        except Lost as error:
            self.lose(error)
            return False
        if word == "ended":
            self.lose(_ENDED)
            return False
        self.note_state(rest[0])
        if self._unreadable is not None:
            self.lose(self._unreadable)
            return False
        if self.lost is not None:
            self.lost = None
            log.warning("shared: Redis at %s is back, and %r counts again", self.address.shown, self.address.name)
            self.on_back()
        return True

    def leave(self, away: Lost | None = None) -> None:
        """Give everything back. The last one to leave ends the service. If Redis is `away`, it is not waited for once more."""
        link, self._link = self._link, None
        if self in self.clock.voices:
            self.clock.voices.remove(self)
        self.drop_slots()
        if link is not None:
            try:
                if away is not None:
                    raise away
                link.call("leave", self._given)
            except Lost as error:
                if self.lost is None:
                    log.warning("shared: Redis at %s is gone as this replica leaves: %s", self.address.shown, error)
            link.close()
        self.lost = None

    def let_go(self) -> None:
        """It is about to leave: give back all slots at once, and not one by one."""
        keys = sorted(key for keys in self.own_keys.values() for key in keys)
        if self._held or keys:
            self.drop_slots()
            self.ask("let_go", keys=keys)

    def lose(self, error: Exception) -> None:
        """The service cannot be asked. A reason is said once, until it is back."""
        before, self.lost = self.lost, words(error)
        if before is None or (isinstance(error, Misfit) and before != self.lost):
            does = "refuses clients" if self.address.when_lost == "closed" else "behaves as healthy"
            log.warning(
                "shared: Redis at %s is lost (%s): %r is %s, and %s until it is back",
                self.address.shown, self.lost, self.address.name, self.address.when_lost, does,
            )  # fmt: skip
            self.on_lost(self.lost)

    # ---- asking ----------------------------------------------------------------------------------

    def ask(self, operation: str, **given: Any) -> list[Any] | None:
        """The answer to an operation; None if Redis is lost."""
        for _ in range(2):
            if self.lost is not None or self._link is None:
                return None
            try:
                answer = self._link.call(operation, {**self._given, **given})
            except Lost as error:
                self.lose(error)
                return None
            if answer[0] != "lease":
                return answer
            if not self.join_again():  # this process stood still for longer than its lease, or Redis has lost its data
                return None
        self.lose(Misfit("leases end before they are used"))
        return None

    def ask_ahead(self, operation: str, each: Sequence[Mapping[str, Any]]) -> None:
        """Ask for each of these in one go: `ask`, which is called for each of them next, has the answers then."""
        if self.lost is None and self._link is not None:
            try:
                self._link.call_ahead(operation, [{**self._given, **given} for given in each])
            except Lost as error:
                self.lose(error)

    def require(self, operation: str, **given: Any) -> list[Any]:
        """The answer to an operation. Raises LostError if Redis is lost."""
        answer = self.ask(operation, **given)
        if answer is None:
            raise LostError(self._cannot_tell(self.lost))
        return answer

    def _cannot_tell(self, why: object) -> str:
        return (
            f"shared: Redis at {self.address.shown} is lost ({why}), so the other replicas cannot be told; "
            "try again when it is back"
        )

    def note_state(self, told: Mapping[str, str]) -> State:
        self.state, self._unreadable = state_of(told), None
        if self.state.scenario != told_scenario(self.scenario):
            try:
                self.scenario = loaded(self.state.scenario)
            except ScenarioError as error:
                name = json.loads(self.state.scenario)["name"]
                self._unreadable = Misfit(
                    f"a replica plays {name!r}, which this version of notnow cannot read: {error}"
                )
                self.lose(self._unreadable)
        return self.state

    def note_move(self, to: PhasePosition, version: int | None) -> None:
        """It has moved the scenario itself, which is the news of this version; None: it has moved it for itself alone."""
        known = self.state
        self.state = replace(known, position=to, version=known.version if version is None else version)

    def read(self) -> State | None:
        """The state of the service as it is now; None if Redis is lost."""
        answer = self.ask("state")
        return None if answer is None else self.note_state(answer[1])

    def play(self, scenario: Scenario) -> None:
        """Have all replicas play this scenario."""
        told = told_scenario(scenario)
        self.scenario = scenario
        self.note_state(self.require("play", digest=digest(told), scenario=told)[1])

    def kick(self) -> None:
        """Have all replicas cut off their clients."""
        self.note_state(self.require("kick")[1])

    # ---- slots -----------------------------------------------------------------------------------

    def holds(self, slots: Sequence[Slot]) -> None:
        for key, owner in slots:
            self._held.setdefault(owner, set()).add(key_text(key))

    def gives_back(self, slots: Sequence[Slot]) -> list[tuple[str, str]]:
        """Those of the slots that it holds, which it now holds no longer."""
        found = [(key_text(key), owner) for key, owner in slots if key_text(key) in self._held.get(owner, ())]
        for key, owner in found:
            self._held[owner].discard(key)
        return found

    @property
    def owners(self) -> list[str]:
        """Those who hold slots."""
        return list(self._held)

    def gives_back_all(self, owner: str) -> list[tuple[str, str]]:
        return [(key, owner) for key in self._held.pop(owner, ())]

    def drop_slots(self) -> None:
        """Hold none: it leaves, or another scenario is played, and slots are acquired anew."""
        self._held.clear()
        self.own_keys.clear()

    # ---- for other threads -----------------------------------------------------------------------

    def renew(self) -> int | None:
        """Renew the lease, and set the clock; the version of the news, or None if the lease has ended. Raises Lost."""
        beat = self._beat(self.link)
        if beat is None:
            return None
        self.clock.correct(beat.earliest, beat.latest)
        return beat.version

    def news(self) -> State | None:
        """The state of the service, for a thread that only looks; None if the lease has ended. Raises Lost."""
        word, *rest = self.link.call("state", self._given)
        return state_of(rest[0]) if word == "ok" else None

    def done(self, version: int) -> None:
        """This replica has carried out the news up to this version. Raises Lost."""
        self.link.call("done", {**self._given, "version": version})

    def announce(self, by: float) -> tuple[float, int]:
        """Advance the clock of all replicas; by how much it was advanced in all, and the version of that. Raises LostError."""
        deadline = true_time.monotonic() + self.address.lease
        try:
            given = {**self._given, "by": by}
            while (answer := self.link.call("advance", given))[0] == "lease":  # the heart takes another
                if true_time.monotonic() > deadline:
                    raise LostError(self._cannot_tell("this replica has no lease"))
                time.sleep(LOOK)
        except Lost as error:
            raise LostError(self._cannot_tell(error)) from None
        return float(answer[1]), int(answer[2])

    def settle(self, version: int | None = None) -> None:
        """Return when every living replica has carried out the news. One that does not answer is waited for as long as a lease."""
        version = self.state.version if version is None else version
        deadline = true_time.monotonic() + self.address.lease
        while self._link is not None and self.lost is None:
            try:
                behind = self.link.call("behind", {**self._given, "version": version})[1]
            except Lost:
                return  # the event loop will say so
            if not behind:
                return
            if true_time.monotonic() > deadline:
                log.warning("shared: %d replicas did not answer within %s", behind, show(self.address.lease))
                return
            time.sleep(LOOK)
