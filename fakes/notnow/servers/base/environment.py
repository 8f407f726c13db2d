"""Where a fake is at home that is made by hand: in a test run, which gives it a seed, a clock and a place in its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import notnow

if TYPE_CHECKING:
    from notnow.servers.base.fake import Fake


class Host(Protocol):
    """What looks after the fakes of a process: `notnow.host`, which the pytest plugin sets for its run."""

    def settings(self) -> Mapping[str, Any]:
        """Server options for a fake that is made now, where its maker gives none."""

    def started(self, fake: Fake) -> None:
        """A fake listens."""

    def stopped(self, fake: Fake) -> None:
        """That fake is gone."""


def settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords of a fake, completed by its host."""
    found = {} if notnow.host is None else notnow.host.settings()
    return {**found, **{name: value for name, value in given.items() if value is not None or name not in found}}


def started(fake: Fake) -> None:
    if notnow.host is not None:
        notnow.host.started(fake)


def stopped(fake: Fake) -> None:
    if notnow.host is not None:
        notnow.host.stopped(fake)
