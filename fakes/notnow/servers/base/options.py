"""The keywords of a fake: the options of the server, checked, and the knobs of its scenario."""

from __future__ import annotations

import inspect
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from notnow import protocols
from notnow.clock import Clock, RealClock
from notnow.errors import Problem, ScenarioError
from notnow.journal import DEFAULT_LIMIT
from notnow.language.advice import unknown
from notnow.language.knobs import SERVER_OPTIONS
from notnow.servers.base.loopback import Loopback, loopback
from notnow.units import SIZE_HELP, parse_size

if TYPE_CHECKING:
    from notnow.shared.address import Address


class Options:
    """The server options of a fake, checked; every other keyword is a knob."""

    def __init__(self, protocol: str, allowed: frozenset[str], given: Mapping[str, Any]) -> None:
        if "scenario" in given:
            raise _bad(
                f"scenario={given['scenario']!r} is a keyword",
                f"the scenario as the first argument, by position, as in Fake{protocol.upper()}({given['scenario']!r})",
            )
        for name in given:
            if name in SERVER_OPTIONS and name not in allowed:
                raise _bad(f"{name!r} is no option of {protocol} servers", ", ".join(sorted(allowed)))
        own = {k: _checked(k, v) for k, v in given.items() if k in SERVER_OPTIONS and v is not None}
        self.given = own.keys()
        self.knobs = {k: v for k, v in given.items() if k not in SERVER_OPTIONS}
        self.shared = _shared(own.get("shared"))
        self.clock: Clock = _clock(own.get("clock"), self.shared)
        self.seed: int = own["seed"] if "seed" in own else secrets.randbelow(2**31)
        self.host: str = own.get("host", "127.0.0.1")
        self.port: int = own.get("port", 0)
        self.tls: str | None = own.get("tls")
        self.users: dict[str, str] | None = own.get("users")
        self.files = _files(own.get("files"))
        self.app: Any = own.get("app")
        self.upstream = self._own_server("upstream", own.get("upstream"), "http")
        self.forward = self._own_server("forward", own.get("forward"), "smtp")
        self.journal_limit: int = own.get("journal_limit", DEFAULT_LIMIT)
        if not 0 <= self.port <= 65535:
            raise _bad(f"port is {self.port!r}", _CHECKED["port"][1])
        if self.journal_limit < 1:
            raise _bad(f"journal_limit is {self.journal_limit!r}", _CHECKED["journal_limit"][1])
        if self.tls is not None:
            _check_mode(self.tls, protocols.get(protocol).tls_modes)
        if self.app is not None:
            _check_app(self.app)
        if self.app is not None and self.upstream is not None:
            raise _bad("app and upstream are both given", "one of them: it answers what no rule answers")

    def _own_server(self, name: str, url: str | None, scheme: str) -> Loopback | None:
        """The address of a server of the user's. Raises ScenarioError for one that is not on this machine, and for the fake's own."""
        if url is None:
            return None
        found = loopback(name, url, scheme)
        if found.port == self.port and (self.host in found.addresses or self.host in _EVERYWHERE):
            raise _bad(f"{name} is {url!r}, the address of the fake itself", "the address of another server")
        return found


_NO_CLOCK = "none, or RealClock(speed): time is that of all replicas, and fake.clock.advance moves it; no fast_forward"


def _shared(url: Any) -> Address | None:
    """Where the counts of all replicas are. What is needed for it is imported only then."""
    if url is None:
        return None
    from notnow.shared.address import address

    return address(url)


def _clock(clock: Any, shared: Address | None) -> Clock:
    if clock is None:
        return RealClock() if shared is None else shared.new_clock()
    if not isinstance(clock, Clock):
        raise _bad(f"clock is {clock!r}", "ManualClock(), or RealClock(speed)")
    if shared is not None and not shared.fits(clock):
        if type(clock) is not RealClock:
            raise _bad(f"shared is given, and a {type(clock).__name__} as the clock", _NO_CLOCK)
        return shared.new_clock(clock.speed)
    return clock


_EVERYWHERE = ("", "localhost", "0.0.0.0", "::")  # addresses of a fake that also listens on those of this machine


def _files(files: Any) -> dict[str, Any] | Path | None:
    """The files of the option: a mapping, or the path of a directory. A string is neither, so that no text becomes a path."""
    if files is None:
        return None
    if isinstance(files, os.PathLike):
        return Path(files)
    _check_sizes(files)
    return files  # type: ignore[no-any-return]


_LIKE_A_SIZE = re.compile(r"\s*[0-9][0-9._,]*\s*[bkmgt][a-z]{0,4}\s*", re.IGNORECASE)


def _check_sizes(files: Mapping[str, Any]) -> None:
    """Raises ScenarioError for a text that looks like a size and is none. In Python, give such a text as bytes."""
    for name, content in files.items():
        if isinstance(content, str) and _LIKE_A_SIZE.fullmatch(content) and parse_size(content) is None:
            allowed = f"a size: {SIZE_HELP}; bytes for a file with just this text: {content.encode()!r}"
            raise _bad(f"files: {name!r} is {content!r}, which looks like a size", allowed)


_OTHER_APPS = {
    1: "an application of ASGI 2: wrap it in asgiref.compatibility.guarantee_single_callable(app)",
    2: "a WSGI application: wrap it in asgiref.wsgi.WsgiToAsgi(app), or in a2wsgi.WSGIMiddleware(app)",
}


def _check_app(app: object) -> None:
    """Raises ScenarioError for an app that cannot be called as `await app(scope, receive, send)`."""
    allowed = "an ASGI application, called with scope, receive and send"
    if not callable(app):
        raise _bad(f"app is {app!r}" + (", the name of one: import it" if isinstance(app, str) else ""), allowed)
    try:
        signature = inspect.signature(app)
    except (TypeError, ValueError):  # it has no signature to look at
        return
    takes = [n for n in (3, 2, 1) if _binds(signature, n)]
    if 3 not in takes:
        other = next((f", and looks like {_OTHER_APPS[n]}" for n in takes), "")
        raise _bad(f"app is {app!r}, which does not take these three arguments{other}", allowed)


def _binds(signature: inspect.Signature, arguments: int) -> bool:
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return False
    return True


def _check_mode(tls: object, modes: Sequence[str]) -> None:
    if not isinstance(tls, str):
        raise _bad(f"tls is {tls!r}", ", ".join(modes))
    if tls not in modes:
        raise ScenarioError([unknown("tls mode", tls, modes)])


def _bad(found: str, allowed: str) -> ScenarioError:
    return ScenarioError([Problem(found, allowed=allowed)])


_CHECKED: Mapping[str, tuple[type | tuple[type, ...], str]] = {
    "seed": (int, "a whole number"),
    "host": (str, "an address of this machine"),
    "port": (int, "0 (any free one) to 65535"),
    "users": (dict, "a mapping of names to passwords"),
    "files": ((dict, os.PathLike), "a mapping of paths to bytes, or the Path of a directory"),
    "upstream": (str, "a URL, such as http://127.0.0.1:8000"),
    "forward": (str, "a URL, such as smtp://127.0.0.1:8000"),
    "journal_limit": (int, "1 or more"),
}
"""The types of those options that have one, and what is allowed, for messages."""


def _checked(name: str, value: Any) -> Any:
    kind, allowed = _CHECKED.get(name, (object, ""))
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _bad(f"{name} is {value!r}", allowed)
    return value
