"""What a condition is: a question about what has been counted under the key of a rule, and what it may look at."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from msgspec import Struct

from notnow.units import ordinal

Owners = tuple[str, ...]  # a connection, and what is in progress on it: both may hold slots


class Load(Protocol):
    """The work that waits at a server of finite capacity. `now` is in seconds of scenario time."""

    def waiting(self, now: float, /) -> float:
        """The units of work that are not done yet."""

    def room_in(self, now: float, /) -> float:
        """In how many seconds the queue has room for one more unit; 0 where it has."""


class Counted(Protocol):
    """The counts under one key: events, the time of the first, fired rules, slots in use, and admissions.

    `load` is that of the whole server; None if it can do any amount of work.
    """

    @property
    def count(self) -> int: ...
    @property
    def since(self) -> float: ...
    @property
    def fired(self) -> Mapping[int, int]: ...
    @property
    def held(self) -> set[str]: ...
    @property
    def window(self) -> deque[float]: ...
    @property
    def load(self) -> Load | None: ...


class Quota(NamedTuple):
    """The state of a limit for one key after an event has been decided; a field is None if only another event decides it.

    `remaining`: how many more it lets through now. `wait`: in how many seconds it lets the key through
    again, 0 where it does now. `reset`: in how many seconds `remaining` grows, 0 where nothing is counted.
    """

    remaining: int | None = None
    wait: float | None = None
    reset: float | None = None


class Keys(Protocol):
    """The keys of a rule that say what a condition beside them means."""

    @property
    def on(self) -> tuple[str, ...]: ...
    @property
    def within(self) -> float | None: ...


class Condition(Struct, frozen=True):
    """A condition on what has been counted under the rule's key, this event included.

    `counts`: what it looks at; for "events" the engine counts each event of the rule. `never_at`: the moments where it
    has no meaning. `tells`: the fields of its `quota`, for the placeholders `{remaining}` and `{wait.…}`. `limit`: the
    number that `{limit}` stands for.
    """

    counts: ClassVar[Literal["events", "slots", "firings", "load"]] = "events"
    never_at: ClassVar[frozenset[str]] = frozenset()
    tells: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls) -> None:
        if ("quota" in vars(cls)) != bool(cls.tells):
            raise TypeError(f"{cls.__name__}: a condition has both 'quota' and 'tells', or neither")

    @classmethod
    def of(cls, value: Any, _rule: Keys, _index: int) -> Condition | None:
        """The condition of a rule, the one with this index in its phase; None where the value means something else."""
        return cls(value)

    @abstractmethod
    def holds(self, counted: Counted, now: float, owners: Owners, /) -> bool:
        """True if the rule may fire for this event. `now` is in seconds of scenario time."""

    @abstractmethod
    def words(self, lasting: bool = False, /) -> str:
        """The condition as `notnow show` prints it. `lasting`: the rule's moment begins what stays in progress."""

    def saw(self, counted: Counted, _now: float, /) -> str:
        """What it looks at, as it stands: for an explanation of why it did not hold."""
        return f"this was the {ordinal(counted.count)}"

    def left(self, _counted: Counted, /) -> int | None:
        """For how many more events it can hold; None if there is no such number."""
        return None

    def quota(self, _counted: Counted, _now: float, /) -> Quota:
        return Quota()

    @property
    def events(self) -> tuple[int, int | None]:
        """The first and the last event at which it can hold; None: there is no last one."""
        return 1, None

    @property
    def slots(self) -> int:
        """The fewest slots in use with which it can hold."""
        return 0

    @property
    def seconds(self) -> tuple[float, float | None]:
        """The time after the first event from which, and before which, it can hold."""
        return 0.0, None

    @property
    def limit(self) -> float | None:
        return None


class Variant(Condition, frozen=True):
    """Another form of a condition, made by the `of` of its class."""
