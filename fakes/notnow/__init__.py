"""Fake SMTP, FTP and HTTP/2 servers that say "not now" (421, and its neighbours) on cue."""

from __future__ import annotations

from typing import TYPE_CHECKING

from notnow import protocols

if TYPE_CHECKING:
    from notnow._version import __version__ as __version__
    from notnow.clock import Clock, FollowingClock, ManualClock, RealClock
    from notnow.control.remote import connect
    from notnow.errors import (
        ControlError,
        DeadlockError,
        FakeError,
        FastForwardError,
        LostError,
        NotNowError,
        NotRunningError,
        ScenarioError,
        ScenarioWarning,
        StartError,
        WaitTimeoutError,
    )
    from notnow.language.catalogue import scenario
    from notnow.language.scenario import Scenario
    from notnow.servers.ftp import FakeFTP
    from notnow.servers.http import FakeHTTP
    from notnow.servers.smtp import FakeSMTP

_HOMES = {
    **{f"Fake{name.upper()}": f"servers.{name}" for name in protocols.NAMES},
    "Clock": "clock",
    "ControlError": "errors",
    "DeadlockError": "errors",
    "FakeError": "errors",
    "FastForwardError": "errors",
    "FollowingClock": "clock",
    "LostError": "errors",
    "ManualClock": "clock",
    "NotNowError": "errors",
    "NotRunningError": "errors",
    "RealClock": "clock",
    "Scenario": "language.scenario",
    "ScenarioError": "errors",
    "ScenarioWarning": "errors",
    "StartError": "errors",
    "WaitTimeoutError": "errors",
    "__version__": "_version",
    "connect": "control.remote",
    "scenario": "language.catalogue",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use, so that importing notnow is cheap."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'notnow' has no attribute {name!r}; it has {', '.join(sorted(__all__))}")
    from importlib import import_module

    return getattr(import_module(f"notnow.{home}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)


__all__ = [
    "Clock",
    "ControlError",
    "DeadlockError",
    "FakeError",
    "FakeFTP",
    "FakeHTTP",
    "FakeSMTP",
    "FastForwardError",
    "FollowingClock",
    "LostError",
    "ManualClock",
    "NotNowError",
    "NotRunningError",
    "RealClock",
    "Scenario",
    "ScenarioError",
    "ScenarioWarning",
    "StartError",
    "WaitTimeoutError",
    "connect",
    "scenario",
]
