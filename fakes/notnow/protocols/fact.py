"""A fact: what an adapter tells the engine of an event, with the values that `where` may ask for.

The loader refuses a value that a fact can never have, and `notnow.engine.matching` compares what `read` returns.
"""

from __future__ import annotations

import ipaddress
import operator
import re
from collections.abc import Callable, Mapping
from fnmatch import translate

from msgspec import Struct, field, structs

from notnow.errors import nearest
from notnow.units import parse_size, show_size

WILD = re.compile(r"\[[^\]]+\]|[*?]")  # what a glob may have besides literal text
_SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
_COMPARED = re.compile(r"([<>]=?|!?=)?\s*(\S+)")
_VERB = re.compile(r"[!-~]+")


class ValueNeverHeldError(ValueError):
    """The fact never has this value. `nearest` is the value that was probably meant."""

    def __init__(self, allowed: str, near: str | None = None) -> None:
        super().__init__(allowed)
        self.nearest = near


class Comparison(Struct, frozen=True):
    """A comparison with a number: `>=10MB`."""

    sign: str
    number: int

    def holds(self, found: object) -> bool:
        """True if `found` is a number that compares so; an absent number never does."""
        return isinstance(found, int) and _SIGNS[self.sign](found, self.number)

    def __str__(self) -> str:
        sign = {"<": "below", "<=": "at most", ">": "above", ">=": "at least", "=": "exactly", "!=": "other than"}
        return f"{sign[self.sign]} {show_size(self.number)}"


class Glob(Struct, frozen=True):
    """A text that a glob matches, in upper or lower case.

    `fault` says why a glob matches no value of the fact; `doubt` says why it probably does not do what was meant.
    """

    allowed: str = "a text or a glob"
    fault: Callable[[str], ValueNeverHeldError | None] = lambda _: None
    doubt: Callable[[str], str | None] = lambda _: None

    def read(self, wanted: object) -> object:
        if not isinstance(wanted, str):
            raise ValueNeverHeldError(self.allowed)
        if found := self.fault(wanted):
            raise found
        return wanted


class Choice(Struct, frozen=True):
    """One of a few words, which a glob may match too, or true and false."""

    values: tuple[str | bool, ...]
    allowed: str = ""

    def __post_init__(self) -> None:
        said = self.allowed or ", ".join(str(v).lower() if isinstance(v, bool) else repr(v) for v in self.values)
        structs.force_setattr(self, "allowed", said.replace("'", '"'))

    def read(self, wanted: object) -> object:
        words = [v for v in self.values if isinstance(v, str)]
        if isinstance(wanted, bool) and wanted in [v for v in self.values if isinstance(v, bool)]:
            return wanted
        if isinstance(wanted, str) and words and any(map(glob(wanted), words)):
            return wanted
        raise ValueNeverHeldError(self.allowed, nearest(wanted, words) if isinstance(wanted, str) else None)


class Size(Struct, frozen=True):
    """A number of bytes, or a comparison with one."""

    allowed: str = 'a number of bytes (5), a size ("10MB"), or either compared: ">=10MB", "<10", "!=0"'

    def read(self, wanted: object) -> object:
        if isinstance(wanted, int) and not isinstance(wanted, bool) and wanted >= 0:
            return wanted
        match = _COMPARED.fullmatch(wanted) if isinstance(wanted, str) else None
        number = None if match is None else int(match[2]) if _is_number(match[2]) else parse_size(match[2])
        if match is None or number is None or (match[1] == "<" and not number):
            raise ValueNeverHeldError(self.allowed)
        return Comparison(match[1], number) if match[1] else number


Kind = Glob | Choice | Size


class Fact(Struct, frozen=True):
    """What an adapter tells the engine of an event.

    `always`: every event at a moment that knows the fact has it, so "none" never holds.
    `decided_at`: the later moment at which the fact is first known; a rule that asks for it is decided there.
    """

    doc: str
    kind: Kind = field(default_factory=Glob)
    always: bool = False
    decided_at: str = ""

    @property
    def allowed(self) -> str:
        return f"{self.kind.allowed}, or a list of these" + ("" if self.always else '; "none" where it is absent')


def glob(wanted: str) -> Callable[[str], object]:
    """A test whether a glob matches a text in upper or lower case, as in `notnow.engine.matching`."""
    return re.compile(translate(wanted), re.IGNORECASE).match


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 18


def literal(wanted: str) -> str:
    """The glob without its wildcards."""
    return WILD.sub("", wanted)


def before_wildcard(wanted: str) -> str:
    """The text of a glob up to its first wildcard."""
    return WILD.split(wanted, maxsplit=1)[0]


# ---- what each kind of text can be ---------------------------------------------------------------


def _address(wanted: str) -> ValueNeverHeldError | None:
    """The peer's address as the socket has it: 127.0.0.1, ::1."""
    allowed = 'an IP address such as "127.0.0.1", or a glob of one ("10.*")'
    if WILD.search(wanted):
        return None if re.fullmatch(r"[0-9a-f.:]*(%.*)?", literal(wanted), re.I) else ValueNeverHeldError(allowed)
    try:
        right = str(ipaddress.ip_address(wanted))
    except ValueError:
        near = {"localhost": "127.0.0.1"}.get(wanted.lower())
        return ValueNeverHeldError(f"{allowed}; a client is known by its address alone", near)
    return None if right == wanted.lower() else ValueNeverHeldError(allowed, right)


def host(wanted: str) -> ValueNeverHeldError | None:
    """A host as the adapter has it: in lower case, without port, brackets and final dot; hosts are ASCII on the wire."""
    allowed = 'a host without its port, such as "a.test", or a glob of one'
    bare = re.sub(r"^[a-z]+://|/.*$", "", wanted.lower())
    bare = re.sub(r"^\[([0-9a-f:.]*:[0-9a-f:.]*)\]", r"\1", bare)
    if not re.search(r":.*:", bare):
        bare = bare.partition(":")[0]
    bare = bare if bare == "." else bare.rstrip(".")
    if bare != wanted.lower():
        return ValueNeverHeldError(allowed, bare or None)
    if not wanted.isascii() or re.search(r"[\s@]", literal(wanted)):
        return ValueNeverHeldError(f"{allowed}, in ASCII (an IDN as its A-label, xn--…)")
    return None


def _sni_doubt(wanted: str) -> str | None:
    try:
        ipaddress.ip_address(wanted)
    except ValueError:
        return None
    return 'clients send no address as SNI (RFC 6066 §3): where = { sni = "none" }'


def _token(wanted: str) -> ValueNeverHeldError | None:
    if _VERB.fullmatch(wanted):
        return None
    return ValueNeverHeldError("a verb such as NOOP, without arguments, or a glob of one", wanted.split(" ")[0] or None)


# ---- facts of every protocol -----------------------------------------------------------------

CONNECTION: Mapping[str, Fact] = {
    "client": Fact(
        "The client's address.", Glob('an IP address ("127.0.0.1") or a glob of one ("10.*")', _address), always=True
    ),
    "tls": Fact("Whether the connection speaks TLS.", Choice((True, False)), always=True),
    "sni": Fact(
        "The server name of the ClientHello (RFC 6066 §3).",
        Glob('a host ("a.test") or a glob of one', host, _sni_doubt),
    ),
    "user": Fact("The user who is logged in.", Glob("a name or a glob")),
}
COMMAND = Glob("a verb (NOOP) or a glob of one", _token)
