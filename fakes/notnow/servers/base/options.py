"""The keywords of a fake: the options of the server, checked, and the knobs of its scenario."""

from __future__ import annotations

import inspect
import os
import re
import secrets
from collections.abc import Mapping
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
        self.given = frozenset(k for k, v in given.items() if k in SERVER_OPTIONS and v is not None)
        self.knobs = {k: v for k, v in given.items() if k not in SERVER_OPTIONS}
        self.shared = _shared(given)
        self.clock: Clock = _clock(given, self.shared)
        seed = _checked(given, "seed", int, "a whole number", None)
        self.seed: int = secrets.randbelow(2**31) if seed is None else seed
        self.host: str = _checked(given, "host", str, "an address of this machine", "127.0.0.1")
        self.port: int = _checked(given, "port", int, "0 (any free one) to 65535", 0)
        modes = protocols.get(protocol).tls_modes
        self.tls: str | None = _checked(given, "tls", str, ", ".join(modes), None)
        self.users: dict[str, str] | None = _checked(given, "users", dict, "a mapping of names to passwords", None)
        self.files = _files(given)
        self.app: Any = given.get("app")
        self.upstream = self._own_server(given, "upstream", "http")
        self.forward = self._own_server(given, "forward", "smtp")
        self.journal_limit: int = _checked(given, "journal_limit", int, "1 or more", DEFAULT_LIMIT)
        if not 0 <= self.port <= 65535:
            raise _bad(f"port is {self.port!r}", "0 (any free one) to 65535")
        if self.journal_limit < 1:
            raise _bad(f"journal_limit is {self.journal_limit!r}", "1 or more")
        if self.tls is not None and self.tls not in modes:
            raise ScenarioError([unknown("tls mode", self.tls, modes)])
        if self.app is not None:
            _check_app(self.app)
        if self.app is not None and self.upstream is not None:
            raise _bad("app and upstream are both given", "one of them: it answers what no rule answers")

    def _own_server(self, given: Mapping[str, Any], name: str, scheme: str) -> Loopback | None:
        """The address of a server of the user's. Raises ScenarioError for one that is not on this machine, and for the fake's own."""
        url = _checked(given, name, str, f"a URL, such as {scheme}://127.0.0.1:8000", None)
        if url is None:
            return None
        found = loopback(name, url, scheme)
        if found.port == self.port and (self.host in found.addresses or self.host in _EVERYWHERE):
            raise _bad(f"{name} is {url!r}, the address of the fake itself", "the address of another server")
        return found


_NO_CLOCK = "none, or RealClock(speed): time is that of all replicas, and fake.clock.advance moves it; no fast_forward"


def _shared(given: Mapping[str, Any]) -> Address | None:
    """Where the counts of all replicas are. What is needed for it is imported only then."""
    if given.get("shared") is None:
        return None
    from notnow.shared.address import address

    return address(given["shared"])


def _clock(given: Mapping[str, Any], shared: Address | None) -> Clock:
    clock = given.get("clock")
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
_FILES = "a mapping of paths to bytes, or the Path of a directory"


def _files(given: Mapping[str, Any]) -> dict[str, Any] | Path | None:
    """The files of the option: a mapping, or the path of a directory. A string is neither, so that no text becomes a path."""
    files = _checked(given, "files", (dict, os.PathLike), _FILES, None)
    if isinstance(files, os.PathLike):
        return Path(files)
    _check_sizes(files or {})
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


def _bad(found: str, allowed: str) -> ScenarioError:
    return ScenarioError([Problem(found, allowed=allowed)])


def _checked(given: Mapping[str, Any], name: str, kind: type | tuple[type, ...], allowed: str, default: Any) -> Any:
    value = given.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise _bad(f"{name} is {value!r}", allowed)
    return value
