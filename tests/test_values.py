"""The values of a scenario file, each type by a table: what it reads, and what it refuses with which words."""

from __future__ import annotations

from typing import Any

import pytest

from notnow.language import limits
from notnow.language.conditions import Per
from notnow.language.expect import RefusalCode
from notnow.language.faults import Alternative, Ending, GoAway, Headers, Origins, Status
from notnow.language.server import Certified, Files, Streams, Users
from notnow.language.tables import InvalidError, Kind, RefusedError
from notnow.language.values import Amount, Count, Duration, Length, Names, Percent, Size
from notnow.units import DURATION_HELP, SIZE_HELP, Span

TYPES: dict[str, Kind[Any]] = {
    "Alternative": Alternative, "Amount": Amount, "Certified": Certified, "Count": Count, "Duration": Duration, "Ending": Ending,
    "Files": Files, "GoAway": GoAway, "Headers": Headers, "Length": Length, "Names": Names, "Origins": Origins, "Per": Per,
    "Percent": Percent, "RefusalCode": RefusalCode, "Size": Size, "Status": Status, "Streams": Streams, "Users": Users,
}  # fmt: skip


def read(kind: str, value: Any) -> Any:
    return TYPES[kind].read(value)


def refused(kind: str, value: Any) -> RefusedError:
    """Why a value was refused, or the first value inside it that was."""
    with pytest.raises((RefusedError, InvalidError)) as caught:
        read(kind, value)
    why = caught.value.mistakes[0].why if isinstance(caught.value, InvalidError) else caught.value
    assert isinstance(why, RefusedError)
    return why


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        ("Duration", "0s", 0.0), ("Duration", "1.5m", 90.0), ("Duration", "36500d", 36_500 * 86_400.0),
        ("Length", "1ms", 0.001), ("Length", "2h", 7200.0),
        ("Percent", "0%", 0.0), ("Percent", "12.5%", 0.125), ("Percent", "100%", 1.0),
        ("Size", 0, 0), ("Size", 5, 5), ("Size", "3MB", 3_000_000), ("Size", "0B", 0),
        ("Amount", 1, 1), ("Amount", 9, 9), ("Amount", "1ms", 0.001), ("Amount", "30s", 30.0),
        ("Count", 1, 1),
        ("Names", "a", ("a",)), ("Names", ["a", "b"], ("a", "b")), ("Names", ("a",), ("a",)),
        ("Per", "client", ("client",)), ("Per", ["user", "host"], ("user", "host")),
        ("Ending", True, True), ("Ending", False, False), ("Ending", "reset", "reset"), ("Ending", "abrupt", "abrupt"),
        ("Status", 200, 200), ("Status", 599, 599),
        ("RefusalCode", 400, 400), ("RefusalCode", 599, 599),
        ("Headers", {"a": "b"}, (("a", "b"),)), ("Headers", {"a": 5}, (("a", "5"),)), ("Headers", {}, ()),
        ("Headers", {"a": ["b", 5], "c": ""}, (("a", "b"), ("a", "5"), ("c", ""))),
        ("Headers", {"content-length": "5", "x": "1"}, (("content-length", "5"), ("x", "1"))),
        ("Origins", "https://a.test", ("https://a.test",)), ("Origins", ["https://a.test:8443"], ("https://a.test:8443",)),
        ("Alternative", 'h2="a.test:443"', 'h2="a.test:443"'),
        ("Certified", ["a.test", "*.b.test", "::1"], ("a.test", "*.b.test", "::1")),
        ("Certified", ["a.test"] * limits.NAMES, ("a.test",) * limits.NAMES),
        ("Files", {"a.txt": "hello", "b": "1GB"}, {"a.txt": "hello", "b": "1GB"}),
        ("Users", {"ann": ""}, {"ann": ""}),
        ("Streams", 1, 1), ("Streams", 2**32 - 1, 2**32 - 1),
    ],
)  # fmt: skip
def test_a_value_is_read(kind: str, value: Any, made: Any) -> None:
    found = read(kind, value)
    assert (found, type(found)) == (made, Span if kind == "Amount" and isinstance(made, float) else type(made))


def test_a_duration_stays_one() -> None:
    """`first = "2s"` and `first = 2` are different conditions."""
    assert [isinstance(read("Amount", value), Span) for value in ("2s", 2)] == [True, False]


AT_LEAST = f"{DURATION_HELP}, and at least 1ms"
EVENTS = f"a number of events (1 or more), or {AT_LEAST}"
SHARE = 'a percentage from 0 to 100, such as "20%"'
STATUS = "a final status, from 200 to 599, such as 503"
CODE = "the code of a reply that refuses, from 400 to 599, such as 421"
PER = "server, client, connection, user, sender, recipient, host, path"
ENDING = 'true, false, "reset" or "abrupt"'
FAREWELL = 'true, a code such as "ENHANCE_YOUR_CALM", or { code = …, last = … }'


@pytest.mark.parametrize(
    ("kind", "value", "words"),
    [
        ("Duration", 5, DURATION_HELP), ("Duration", "5", DURATION_HELP), ("Duration", "36501d", DURATION_HELP),
        ("Length", "0s", AT_LEAST), ("Length", "0.9ms", AT_LEAST), ("Length", 3, AT_LEAST),
        ("Percent", "101%", SHARE), ("Percent", 20, SHARE),
        ("Size", -1, SIZE_HELP), ("Size", True, SIZE_HELP), ("Size", "3 MB", SIZE_HELP), ("Size", 1.5, SIZE_HELP),
        ("Amount", 0, EVENTS), ("Amount", True, EVENTS), ("Amount", "0s", EVENTS), ("Amount", "0.9ms", EVENTS), ("Amount", "x", EVENTS),
        ("Names", [], "at least one"), ("Names", [5], "text, or a list of texts"), ("Names", 5, "text, or a list of texts"),
        ("Per", [], f"at least one of {PER}"), ("Per", "clint", PER), ("Per", ["client", 5], PER),
        ("Ending", "rst", ENDING), ("Ending", 2, ENDING), ("Ending", None, ENDING),
        ("Status", 199, STATUS), ("Status", 600, STATUS), ("Status", "503", STATUS), ("Status", True, STATUS),
        ("RefusalCode", 399, CODE), ("RefusalCode", 600, CODE), ("RefusalCode", True, CODE), ("RefusalCode", "421", CODE),
        ("Headers", ["a"], 'a table of headers, such as { retry-after = "120" }'),
        ("Headers", {"a b": "c"}, "header names with a text, a number, or a list of these, not a b = 'c'"),
        ("Headers", {"a": True}, "header names with a text, a number, or a list of these, not a = True"),
        ("Headers", {"a": 1.5}, "header names with a text, a number, or a list of these, not a = 1.5"),
        ("Headers", {"a": "b\nc"}, "header values without line ends and other control characters, and without spaces around them, not 'b\\nc'"),
        ("Headers", {"a": " b"}, "header values without line ends and other control characters, and without spaces around them, not ' b'"),
        ("Headers", {"Content-Length": ["1", "2"]}, "one content-length (RFC 9110 §8.6), not 1, 2"),
        ("GoAway", False, FAREWELL), ("GoAway", 5, FAREWELL),
        ("Certified", [], "at least one"), ("Certified", ["a.test"] * (limits.NAMES + 1), "at most 100 names"),
        ("Files", {"a": "1.1GB"}, "files of up to 1GB, not a = '1.1GB'"),
        ("Users", {"": "x"}, "names of users; one of them is empty"),
        ("Users", {"a": "x\r"}, "names and passwords on one line, which a client can say, not 'x\\r'"),
        ("Users", {"a\n": "x"}, "names and passwords on one line, which a client can say, not 'a\\n'"),
    ],
)  # fmt: skip
def test_a_value_is_refused_with_what_is_allowed(kind: str, value: Any, words: str) -> None:
    assert refused(kind, value).allowed == words


@pytest.mark.parametrize(
    ("kind", "value"),
    [("Count", 0), ("Count", True), ("Count", "1"), ("Streams", 0), ("Streams", 2**32), ("Files", {"a": 5}), ("Users", {"a": 5}),
     ("Files", {"a": "x", "a/b": "x"}), ("Certified", ["http://a.test"]), ("Origins", ["a.test"]), ("Alternative", "ä"),
     ("GoAway", {"code": "X"}), ("GoAway", {"last": -1}), ("GoAway", {"last": limits.STREAM + 1}), ("GoAway", {"last": True})],
)  # fmt: skip
def test_a_value_is_refused(kind: str, value: Any) -> None:
    assert refused(kind, value).allowed


@pytest.mark.parametrize(
    ("value", "code", "last"),
    [(True, "NO_ERROR", "current"), ("CANCEL", "CANCEL", "current"), ({"last": "previous"}, "NO_ERROR", "previous"),
     ({"code": "CANCEL", "last": 0}, "CANCEL", 0), ({"last": limits.STREAM}, "NO_ERROR", limits.STREAM)],
)  # fmt: skip
def test_a_goaway(value: Any, code: str, last: Any) -> None:
    found = read("GoAway", value)
    assert (found.code, found.last) == (code, last)


@pytest.mark.parametrize(
    ("kind", "value", "near"),
    [("Per", "clint", "client"), ("Per", "zzz", None), ("Ending", "rest", "reset"), ("Certified", ["a.test:443"], "a.test"),
     ("Certified", ["ann@a.test"], "a.test"), ("GoAway", {"last": "curent"}, "current")],
)  # fmt: skip
def test_the_nearest_is_offered(kind: str, value: Any, near: str | None) -> None:
    assert refused(kind, value).nearest == near
