"""The counts that conditions look at: a `Tally` for each key. The conditions are in `notnow.language.conditions`."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from notnow.language.conditions import Counted, Owners

Key = tuple[Hashable, ...]


@dataclass(slots=True)
class Tally:
    """What was counted under one key.

    `count` and `since` (the time of its first event) restart with the phase, and so does `fired`. `held`
    and `window`, who is in and when somebody was let in, do not.
    """

    count: int = 0
    since: float = 0.0
    fired: dict[int, int] = field(default_factory=dict)
    held: set[str] = field(default_factory=set)
    window: deque[float] = field(default_factory=deque)

    def restart(self) -> None:
        self.count = 0
        self.fired.clear()


class Always:
    """The condition of a rule that has none."""

    def holds(self, _counted: Counted, _now: float, _owners: Owners, /) -> bool:
        return True
