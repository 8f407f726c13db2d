"""Where the counts of a shared service are: `redis://HOST:PORT/DB?name=NAME&lease=10s&when-lost=closed`."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from importlib.util import find_spec
from os.path import isfile
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from msgspec import Struct
from msgspec.structs import replace

from notnow.errors import Problem, ScenarioError, unknown
from notnow.units import seconds, show

if TYPE_CHECKING:
    from notnow.clock import Clock
    from notnow.language.scenario import Scenario
    from notnow.shared.clock import SharedClock

ALLOWED = "redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss://… for TLS, or unix://PATH"
SCHEMES = ("redis", "rediss", "unix")
OURS = ("name", "lease", "when-lost", "speed")
WHEN_LOST = ("closed", "open")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
NAME_HELP = "letters, digits, '.', '_' and '-', 100 characters at most"
TIMEOUTS = {"socket_timeout": "0.5", "socket_connect_timeout": "0.5"}  # real seconds that the event loop waits at most
LONGEST_TIMEOUT = 60.0
LEASE = 10.0  # seconds
SHORTEST, LONGEST = 0.5, 3600.0


def _is_timeout(text: str) -> bool:
    return bool(re.fullmatch(r"[0-9]*\.?[0-9]+", text)) and 0 < float(text) <= LONGEST_TIMEOUT


# The words of a URL that redis-py reads: what each may be.
_TIMEOUT = _is_timeout, f"seconds, more than 0 and at most {LONGEST_TIMEOUT:g}"
_FILE = isfile, "a file"
OF_REDIS: Mapping[str, tuple[Callable[[str], bool], str]] = {
    "db": (str.isdecimal, "a number"),
    "socket_timeout": _TIMEOUT,
    "socket_connect_timeout": _TIMEOUT,
    "ssl_ca_certs": _FILE,
    "ssl_certfile": _FILE,
    "ssl_keyfile": _FILE,
    "ssl_cert_reqs": (("required", "optional", "none").__contains__, "required, optional, none"),
}


class Address(Struct, frozen=True):
    """A Redis, and a service in it.

    `url` is for redis-py, `shown` the same without a password. `name` is the service's, None for one that its scenario
    gives. A replica that is gone without a word keeps its slots for `lease` real seconds. `when_lost`: whether a fake whose Redis
    is gone is closed or open. Scenario time runs `speed` times as fast as real time.
    """

    url: str
    shown: str
    name: str | None = None
    lease: float = LEASE
    when_lost: str = "closed"
    speed: float = 1.0

    def named(self, name: str) -> Address:
        """With this name, unless it has one."""
        return self if self.name else replace(self, name=name)

    def new_clock(self, speed: float = 1.0) -> SharedClock:
        """A clock for its replicas; the speed of the URL comes before this one."""
        from notnow.shared.clock import SharedClock

        return SharedClock(speed if self.speed == 1 else self.speed)

    def fits(self, clock: Clock) -> bool:
        """True for a clock that can show the time of a service."""
        from notnow.shared.clock import SharedClock

        return isinstance(clock, SharedClock)

    @property
    def prefix(self) -> str:
        """How the keys of the service begin. The number is that of their form; the braces keep them on one node of a cluster."""
        return f"notnow:1:{{{self.name}}}:"


def address(url: object, *, option: str = "shared") -> Address:
    """Read the URL of an option. Raises ScenarioError if it is none, or if redis-py is not installed."""
    parts = _split(url)
    if parts is None or parts.scheme not in SCHEMES or not (parts.hostname or (parts.scheme == "unix" and parts.path)):
        raise ScenarioError([Problem(f"{option} is {_safe(url)!r}", allowed=ALLOWED)])
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    if strange := [name for name in query if name not in OURS and name not in OF_REDIS]:
        raise ScenarioError([unknown("word", _safe(strange[0]), [*OURS, *OF_REDIS], key=option)])
    require_redis(option)
    db = parts.path.strip("/")
    if parts.scheme != "unix" and db and not db.isdecimal():
        raise ScenarioError(
            [Problem(f"{option}: the database is {_safe(db)!r}", allowed="a number: redis://HOST:PORT/0")]
        )
    theirs = {name: value for name, value in query.items() if name in OF_REDIS}
    _check_words(parts.scheme, theirs, option)
    return Address(
        _joined(parts._replace(query=urlencode(TIMEOUTS | theirs))),
        _shown(parts),
        _name(query, option),
        _lease(query, option),
        _one_of(query, option, "when-lost", WHEN_LOST),
        _speed(query, option),
    )


def _check_words(scheme: str, words: Mapping[str, str], option: str) -> None:
    for name, value in words.items():
        fits, allowed = OF_REDIS[name]
        if not fits(value):
            raise ScenarioError([Problem(f"{option}: {name} is {value!r}", allowed=allowed)])
        if name.startswith("ssl_") and scheme != "rediss":
            raise ScenarioError(
                [Problem(f"{option}: {name} is for TLS, and this is {scheme}://", allowed="rediss://…")]
            )


def require_redis(option: str) -> None:
    if find_spec("redis") is None:
        raise ScenarioError(
            [Problem(f"{option} needs redis-py, which is not installed", hint="pip install 'notnow[shared]'")]
        )


def _split(url: object) -> SplitResult | None:
    try:
        parts = urlsplit(str(url))
        _ = parts.port
        return parts if isinstance(url, str) else None
    except ValueError:
        return None


def _joined(parts: SplitResult) -> str:
    """The URL of these parts. `geturl` writes unix:PATH, which redis-py does not read."""
    return re.sub("^unix:(?!//)", "unix://", parts.geturl())


def _safe(value: object) -> Any:
    """A value to show: what stands before an @ may be a password, or the rest of one that holds a / or a ?."""
    return re.sub(r"(?<=//).*@|^(?!.*//).*@", "…@", value) if isinstance(value, str) else value


def _shown(parts: SplitResult) -> str:
    where = parts.netloc.rpartition("@")[2]
    return _joined(parts._replace(netloc=where, query="", fragment=""))


def _name(query: dict[str, str], option: str) -> str | None:
    name = query.get("name")
    if name is not None and not NAME.fullmatch(name):
        raise ScenarioError([Problem(f"{option}: name is {name!r}", allowed=NAME_HELP)])
    return name


def _lease(query: dict[str, str], option: str) -> float:
    try:
        lease = seconds(query.get("lease", LEASE))
    except ValueError:
        lease = 0.0
    if not SHORTEST <= lease <= LONGEST:
        allowed = f"{show(SHORTEST)} to {show(LONGEST)}, such as 10s"
        raise ScenarioError([Problem(f"{option}: lease is {query['lease']!r}", allowed=allowed)])
    return lease


def _one_of(query: dict[str, str], option: str, name: str, allowed: Collection[str]) -> str:
    first = next(iter(allowed))
    if query.get(name, first) not in allowed:
        raise ScenarioError([unknown(name, query[name], allowed, key=option)])
    return query.get(name, first)


def _speed(query: dict[str, str], option: str) -> float:
    text = query.get("speed", "1")
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        raise ScenarioError([Problem(f"{option}: speed is {text!r}", allowed="a number, 0 or more")])
    return float(text)


_NAME_IT = "--shared-name NAME, the same on all replicas"


def service(url: str, servers: Mapping[str, Scenario], words: Mapping[str, str | None], *, option: str) -> str:
    """The URL of a service of these servers, with these words in its query; it gets a name if it has none.

    Raises ScenarioError as `address` does.
    """
    if address(url, option=option).name is None and words.get("name") is None:
        from notnow.shared.naming import name_of

        if not servers:
            raise ScenarioError(
                [Problem(f"{option}: no server is named, of which the service could have its name", hint=_NAME_IT)]
            )
        words = {**words, "name": name_of(servers)}
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    query |= {name: value for name, value in words.items() if value is not None}
    found = _joined(parts._replace(query=urlencode(query, quote_via=quote)))
    address(found, option=option)
    return found
