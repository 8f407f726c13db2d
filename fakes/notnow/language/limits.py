"""The limits of a scenario: the largest values that the protocols can carry and the fakes can serve.

The loader refuses larger values, and the adapters read the same numbers, so a fake can serve every scenario that loads.
"""

from __future__ import annotations

import ipaddress
import posixpath
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from notnow.bounds import FTP_PATH

NUMBER = 2**63 - 1  # the largest whole number that every reader of TOML takes (TOML 1.0, "Integer")
SETTING = 2**32 - 1  # the largest value of an HTTP/2 setting (RFC 9113 §6.5.1)
STREAM = 2**31 - 1  # the largest number of an HTTP/2 stream (RFC 9113 §5.1.1)
FRAME = 16_384  # octets of a frame's payload that every HTTP/2 client takes (RFC 9113 §4.2)
HOST = 253  # octets of a host name (RFC 1035 §2.3.4, without the root)
FIELD = 65_536  # octets of a header field's value
NAMES = 100  # of a certificate: clients have a limit for its size, OpenSSL's is 100 KB
FILE = 1_000_000_000  # bytes of a file that is given by its size
PATH = 255  # octets of a component of a file's path, as file systems have it
DIRECTORIES = 10_000  # of a tree: the names of files may make many, each with a long path
PATTERN = 1_000  # characters of a text in `where`: it is compiled, in a time that grows with the square
PATTERNS = 200_000  # characters of all texts in `where`: those of one phase are compiled together
PER_PATTERN = 10  # characters that each of them counts more, for what it costs to compile any
CODES = (400, 599)  # of replies that refuse
JOINERS = "\u200c\u200d"  # in names in Persian, say, and between the parts of an emoji

_LIVE = re.compile(r"\{[^{}]*\}")
_ORIGIN = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::[0-9]{1,5})?")  # RFC 6454 §6.2

# Header fields that decide where a response ends: the values that both versions of HTTP can send, and the error's words.
FORMS = {
    "content-length": (re.compile(r"[0-9]{1,18}"), "content-length as a number of bytes (RFC 9110 §8.6)"),
    "transfer-encoding": (re.compile(r"(?i:chunked)"), "chunked as the one transfer-encoding (RFC 9112 §6.1)"),
    "te": (re.compile(r"(?i:trailers)"), "trailers as the one value of te (RFC 9113 §8.2.2)"),
}


def idna_name(name: str) -> str:
    """A host name in ASCII, as certificates and clients use it (RFC 5890). Raises UnicodeError for an invalid name."""
    import idna

    star = "*." if name.startswith("*.") else ""
    return star + idna.encode(name.removeprefix("*."), uts46=True).decode()


def is_certifiable(name: str) -> bool:
    """True if a server certificate can have this name: a host, a wildcard label before one, or an IP address."""
    try:
        return "%" not in name and bool(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return not re.search(r"[@/:\s]", name) and len(idna_name(name)) <= HOST
    except UnicodeError:
        return False


def origin_fault(origins: Sequence[str]) -> str | None:
    """Why an ORIGIN frame cannot carry these (RFC 8336 §2): each is SCHEME://HOST[:PORT], in ASCII."""
    for origin in origins:
        filled = _LIVE.sub("1", origin)
        match = _ORIGIN.fullmatch(filled)
        port = filled.rpartition(":")[2]
        if match is None or (port.isdigit() and int(port) > 65535) or len(filled) > HOST + len("https://:65535"):
            return f'origins such as "https://a.test" or "https://a.test:8443" (scheme and host, no path), not {origin!r:.80}'
    if sum(len(origin) + 2 for origin in origins) > FRAME - HOST:
        return f"origins that fit into one frame of {FRAME} octets"
    return None


def altsvc_fault(value: str) -> str | None:
    """Why neither an ALTSVC frame nor the header can carry this (RFC 7838 §3, §4)."""
    if not value.isascii() or not value.isprintable() or value != value.strip():
        return "printable ASCII, as in 'h2=\"alt.test:443\"; ma=60'"
    return None if len(value) <= FRAME - 2 * HOST else f"at most {FRAME - 2 * HOST} octets: it is one frame"


def field_fault(name: str, value: str) -> str | None:
    """Why a header field of an answer cannot have this value, as it is sent (RFC 9110 §5.5)."""
    form = FORMS.get(name.lower())
    if form is not None and not form[0].fullmatch(_LIVE.sub("1", value)):
        return f"{form[1]}, not {name} = {value!r:.80}"
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return f"header values in ISO 8859-1, which is all that is sent (RFC 9110 §5.5), not {value!r:.80}"
    return None if len(value) <= FIELD else f"header values of at most {FIELD} octets"


def is_clean(name: str) -> bool:
    """False for a name with control characters: a line end in it would make two lines of a listing."""
    return name.isprintable() or all(
        c.isprintable()
        or c in JOINERS
        or unicodedata.category(c) == "Zs"  # macOS names its screenshots with such a space
        for c in name
    )


def file_path(name: str) -> str:
    """The path of a file, from the root."""
    return "/" + posixpath.normpath("/" + name).lstrip("/")


def tree_faults(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The names that cannot be in one tree with the others, each with the reason. A name with a final slash is a directory."""
    files: set[str] = set()
    directories = {"/"}
    for name in names:
        where = file_path(name)
        if fault := _name_fault(name, where):
            yield name, fault
            continue
        above = list(_above(where))
        if not name.endswith("/") and where in directories:
            yield name, f"{name!r} is a directory"
        elif name.endswith("/") and where in files:
            yield name, f"{where[1:]!r} is a file: it cannot be a directory, as {name!r} wants it"
        elif in_the_way := next((part for part in above if part in files), None):
            yield name, f"{in_the_way[1:]!r} is a file: it cannot be a directory, as {name!r} wants it"
        else:
            directories.update(above)
            if len(directories) > DIRECTORIES:
                yield name, f"there are more than {DIRECTORIES:,} directories"
                return
            (directories if name.endswith("/") else files).add(where)


def path_fault(name: str, where: str) -> str | None:
    """Why a file cannot have a path of this length: its directories could fill the memory."""
    if len(where.encode("utf-8", "surrogatepass")) > FTP_PATH:
        return f"{name!r:.60} is too long: a path has at most {FTP_PATH:,} bytes"
    return None


def _name_fault(name: str, where: str) -> str | None:
    if fault := path_fault(name, where):
        return fault
    if not is_clean(where):
        return f"{name!r} is not the name of a file: there are control characters in it"
    if where == "/" and not name.endswith("/"):
        return f"{name!r} is not the name of a file: there is nothing in it"
    if any(len(part.encode("utf-8", "surrogatepass")) > PATH for part in where.split("/")):
        return f"{name!r:.60} is too long: a component of a path has at most {PATH} bytes"
    return None


def _above(where: str) -> Iterator[str]:
    """The directories above a path, the root left out."""
    while (where := posixpath.dirname(where)) != "/":
        yield where
