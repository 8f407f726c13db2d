"""Whatever the loader accepts, a client can play on a real fake without FakeError; the limits of both are one table."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import tomllib
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator

from notnow import FakeFTP, FakeHTTP, FakeSMTP, RealClock, protocols
from notnow.errors import ScenarioError
from notnow.language import limits
from notnow.language.faults import ALERTS, DATA_ENDINGS, H2_CODES
from notnow.language.limits import tree_faults
from notnow.language.loading import loads
from notnow.language.scenario import Scenario
from notnow.language.schema import json_schema
from notnow.servers.base.tls import Shown, context
from notnow.servers.ftp.files import Files
from playbook import document, phase, rule

FAKES = {"smtp": FakeSMTP, "ftp": FakeFTP, "http": FakeHTTP}
PATIENCE = 0.15  # real seconds that the client waits for an answer that may never come
CLEAR = ssl._create_unverified_context()

EXAMPLES = 20  # a real server each

# ---- scenarios: every key, with values at and beyond its limits -----------------------------------

TEXT = st.text(max_size=12)
HOSTS = ["a.test", "*.a.test", "localhost", "127.0.0.1", "::1", "bücher.test", "", "*", "10.0.0.0/8", "foo@bar", "a b",
         "a..b", "a_b.test", "x" * 64, ".".join(["y" * 60] * 5), "a.test.", "fe80::1%lo", "a.test:443", "xn--zz", "-a"]  # fmt: skip
COUNTS = st.sampled_from([0, 1, 2, 7, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63])
SILENCES = st.sampled_from(
    ["0s", "5s", "36500d", "36501d"]
)  # on a fast clock a short one ends more often than it can be told
SPANS = st.sampled_from(["0s", "1ms", "5s", "36500d", "36501d"])
LINES = st.sampled_from([
    "421", "421 x", "421 ", "450 4.3.0 \0 \x1b[0m", "250 ok", "354 go", "220 \u20ac {client} {left.seconds}", "421 " + "x" * 9000,
    ["421-a", "421 b"], ["250 ok", "421 bye"], "227 (127,0,0,1,{p1},{p2})", "229 (|||{data.port}|)", "599 x", "200 x", "120 wait",
])  # fmt: skip
NAMES = st.sampled_from(
    ["", "/", ".", "..", "a", "/a", "a/b", "a/", "a\nb", "a b", "\u00e9", "x" * 300, "a\0", "//", "-l"]
)
HEADERS = st.sampled_from([
    {"retry-after": 120}, {"Content-Length": "5"}, {"content-length": "x"}, {"content-length": ["1", "2"]}, {"transfer-encoding": "chunked"},
    {"connection": "close"}, {"x": ["a", "b"]}, {"x": "\u20ac"}, {"x": "\u00e9"}, {"x": "a\nb"}, {"x": ""}, {"a b": "c"}, {":status": "200"},
    {"x": "y" * 70_000}, {"x": "y" * 30_000}, {"x": 10**30}, {"upgrade": "h2c"}, {"te": "x"}, {"date": "now"}, {"x": "{client}"},
])  # fmt: skip
ORIGINS = st.sampled_from([
    "https://a.test", "https://{host}:{port}", ["https://a.test", "http://[::1]:8"], "banana", "https://a.test/", "https://" + "x" * 70_000,
    ["https://a.test"] * 2000, "https://\u20ac.test", "https://a.test:99999", "https://a\nb",
])  # fmt: skip
ALTERNATIVES = st.sampled_from(['h2="a:1"', "clear", "banana", "a\nb", "\u20ac", "x" * 20_000, "", " x", "{host}"])
GOAWAYS = st.one_of(
    st.just(True), st.sampled_from(H2_CODES), st.fixed_dictionaries({"last": st.one_of(COUNTS, st.sampled_from(["current", "previous"]))})
)  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "reply": LINES, "close": st.sampled_from([True, False, "reset", "abrupt"]), "stall": st.just(True), "keep": st.booleans(),
    "delay": SPANS, "drip": st.sampled_from(["0s", "1ms", "36500d"]), "data": st.sampled_from(DATA_ENDINGS), "after_bytes": COUNTS,
    "status": st.sampled_from([200, 204, 205, 304, 421, 503, 599, 199, 600]), "headers": HEADERS, "body": TEXT, "goaway": GOAWAYS,
    "altsvc": ALTERNATIVES, "origin": ORIGINS, "reset_stream": st.sampled_from(H2_CODES), "certificate": st.sampled_from(["one", "two"]),
    "alert": st.sampled_from(ALERTS),
}  # fmt: skip
CONDITIONS: dict[str, st.SearchStrategy[Any]] = {
    "nth": COUNTS, "every": COUNTS, "first": st.one_of(COUNTS, SPANS), "times": COUNTS, "chance": st.sampled_from(["0%", "50%"]),
    "per": st.sampled_from(["client", "connection", "user", ["server", "client"]]), "over": COUNTS,
}  # fmt: skip
WANTED = st.sampled_from(
    ["*", "none", "127.*", "a@*", "/a*", ">5", "a.test", "sni", "passive", True, 5, "MAIL", "RETR", "GET"]
)


@st.composite
def rules(draw: st.DrawFn, protocol: str) -> dict[str, Any]:
    """A rule of faults that its moment can have, and seldom of one that it cannot."""
    on = draw(st.sampled_from(list(protocols.get(protocol).moments)))
    can = sorted(protocols.get(protocol).moments[on].faults & VALUES.keys())
    keys = draw(st.lists(st.sampled_from(can), min_size=1, max_size=3, unique=True))
    made = {key: draw(VALUES[key]) for key in keys}
    for key in draw(st.lists(st.sampled_from(sorted(CONDITIONS)), max_size=1)):
        made[key] = draw(CONDITIONS[key])
    if draw(st.integers(0, 4)) == 0:
        made["where"] = {draw(st.sampled_from(sorted(protocols.get(protocol).facts.keys() - {"header"}))): draw(WANTED)}
    return rule(on, **made, **({"after": draw(SILENCES)} if on == "idle" else {}))


@st.composite
def documents(draw: st.DrawFn, protocol: str) -> dict[str, Any]:
    server: dict[str, Any] = {"tls": draw(st.sampled_from(protocols.get(protocol).tls_modes))}
    if protocol == "http" and draw(st.booleans()):
        server["max_streams"] = draw(COUNTS)
    if protocol != "http" and draw(st.booleans()):
        server["users"] = draw(st.dictionaries(st.sampled_from(["ann", "", "a\nb", "x y"]), TEXT, max_size=2))
    if protocol == "ftp" and draw(st.booleans()):
        contents = st.sampled_from(["", "text", "3KB", "700MB", "1GB", "2GB", "9" * 300 + "GB", "3 MB"])
        server["files"] = draw(st.dictionaries(NAMES, contents, max_size=3))
        server["quota"] = draw(st.sampled_from([0, "1KB", limits.NUMBER, "9" * 300 + "GB"]))
    names = st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2)
    flags = st.fixed_dictionaries(
        {"names": names}, optional=dict.fromkeys(("expired", "untrusted", "incomplete"), st.booleans())
    )
    return {"server": server, "certificate": {"one": draw(flags), "two": {"names": ["b.test"]}}}


def load(text: str) -> Scenario | None:
    try:
        return loads(text)
    except ScenarioError:
        return None


def holding(protocol: str, top: dict[str, Any]) -> dict[str, Any]:
    """What loads by itself of a server and of its certificates."""
    server = {k: v for k, v in top["server"].items() if load(document(phase(), protocol=protocol, server={k: v}))}
    one = {
        k: v for k, v in top["certificate"].items() if load(document(phase(), protocol=protocol, certificate={k: v}))
    }
    return {"server": server, "certificate": {"one": {}, "two": {}, **one}}


def sound(protocol: str, made: list[dict[str, Any]], top: dict[str, Any]) -> list[dict[str, Any]]:
    """The rules that load by themselves."""
    return [one for one in made if load(document(phase(one, lasts="10m"), phase(), protocol=protocol, **top))]


# ---- clients: they say all that they have to say, whatever comes back ------------------------------


def converse(fake: Any, said: list[bytes]) -> None:
    """Say one thing after the other on one connection, in TLS where the fake begins with it."""
    with contextlib.suppress(OSError), socket.create_connection((fake.host, fake.port), timeout=2) as plain:
        plain.settimeout(PATIENCE)
        hosts = fake.scenario.hosts
        sock = (
            CLEAR.wrap_socket(plain, server_hostname=hosts[0] if hosts else "a.test")
            if fake.tls == "implicit"
            else plain
        )
        with sock:
            for words in said:
                sock.sendall(words)
                if not _hear(sock):
                    return


def _hear(sock: socket.socket) -> bool:
    """Read what comes at once. False if nothing did, or the end."""
    try:
        return bool(sock.recv(65_536))
    except TimeoutError:
        return False


MAIL = [b"", b"EHLO a\r\n", b"MAIL FROM:<a@a.test> SIZE=5\r\n", b"RCPT TO:<b@b.test>\r\n", b"DATA\r\n", b"x: y\r\n\r\nbody\r\n.\r\n",
        b"RSET\r\nNOOP\r\nAUTH PLAIN AGFubgB4\r\nSTARTTLS\r\n", b"QUIT\r\n"]  # fmt: skip
FILES = [
    b"",
    b"USER ann\r\n",
    b"PASS x\r\n",
    b"CWD /\r\nPWD\r\nTYPE I\r\nEPSV\r\n",
    b"PASV\r\n",
    b"LIST\r\n",
    b"RETR a\r\nSTAT\r\nABOR\r\nAUTH TLS\r\n",
    b"QUIT\r\n",
]
GET = b"GET /a?x=1 HTTP/1.1\r\nHost: a.test\r\n\r\n"
POST = b"POST /b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc"
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


def _request(stream: int) -> bytes:
    head = b"\x82\x84\x86\x41\x01a"  # GET / of http://a
    return struct.pack("!I", len(head))[1:] + b"\1\5" + struct.pack("!I", stream) + head


TALKS = {
    "smtp": [MAIL, MAIL],
    "ftp": [FILES, FILES],
    "http": [[GET, POST, GET], [HELLO + _request(1) + _request(3), _request(5)]],
}


def play(made: Scenario) -> None:
    """Two clients, one after the other, on a fast clock. Leaving the block raises what has failed in the fake."""
    with FAKES[made.protocol](made, clock=RealClock(speed=1_000), seed=1) as fake:
        for said in TALKS[made.protocol]:
            converse(fake, said)
        fake.next_phase()
        assert fake.journal.count("connect") == len(TALKS[made.protocol])


@pytest.mark.parametrize("protocol", protocols.NAMES)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_loads_plays_on_a_real_fake(protocol: str, data: st.DataObject) -> None:
    top = holding(protocol, data.draw(documents(protocol)))
    made = sound(protocol, data.draw(st.lists(rules(protocol), min_size=1, max_size=3)), top)
    scenario = load(document(phase(*made, lasts="10m"), phase(), protocol=protocol, **top))
    assert scenario is not None
    event(f"{len(made)} rules")
    play(scenario)


@pytest.fixture(scope="module")
def schema() -> Draft7Validator:
    return Draft7Validator(json_schema())


@pytest.mark.parametrize("protocol", protocols.NAMES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_what_loads_is_right_by_the_schema_too(schema: Draft7Validator, protocol: str, data: st.DataObject) -> None:
    top = holding(protocol, data.draw(documents(protocol)))
    made = sound(protocol, data.draw(st.lists(rules(protocol), min_size=1, max_size=3)), top)
    schema.validate(tomllib.loads(document(phase(*made, lasts="10m"), phase(), protocol=protocol, **top)))


# ---- the table -----------------------------------------------------------------------------------

BEYOND = {
    "ftp": [
        *({"server": {"files": files}} for files in ({"": "x"}, {"a\nb": "x"}, {"a": "2GB"}, {"a": "", "a/b": ""}, {".": ""}, {"x" * 256: ""})),
        {"server": {"users": {"a\r\nb": "x"}}},
        {"server": {"users": {"": "x"}}},
    ],
    "smtp": [*({"certificate": {"c": {"names": name}}, "server": {"tls": "implicit"}} for name in ("", "foo@bar", "10.0.0.0/8", "*", "a..b")),
             {"expect": {"new_connection_after": -5}}, {"expect": {"new_connection_after": 250}}],
    "http": [{"server": {"max_streams": 2**32}}],
}  # fmt: skip
ORIGIN = "https://" + "x" * 70_000
FRAMES = [{"goaway": {"last": 2**31}}, {"origin": ORIGIN}, {"origin": "banana"}, {"origin": "https://a.test/x"}, {"altsvc": "a\nb"},
          {"altsvc": "x" * 20_000}, {"altsvc": "\u20ac"}, {"headers": {"x": "\u20ac"}}, {"origin": ["https://a.test"] * 2000}]  # fmt: skip


@pytest.mark.parametrize(("protocol", "top"), [(name, top) for name, tops in BEYOND.items() for top in tops])
def test_what_a_server_cannot_be_is_refused(protocol: str, top: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match="allowed"):
        loads(document(phase(), protocol=protocol, **top))


BY_SCHEMA = [
    *(top for top in (*BEYOND["http"], *BEYOND["smtp"]) if "certificate" not in top),
    {"server": {"files": {"": "x"}}},
    {"server": {"users": {"": "x"}}},
    *({"phase": [{"rule": [{"on": "request", **fault}]}]} for fault in ({"goaway": {"last": 2**31}}, {"origin": "banana"}, {"altsvc": "\u20ac"})),
    *({"phase": [{"rule": [{"on": "mail", "where": where}]}]} for where in ({"sendr": "x"}, {"tls": "yes"}, {"size": "big"}, {"client": 5}, {"header": "x"})),
]  # fmt: skip


@pytest.mark.parametrize("top", BY_SCHEMA, ids=str)
def test_the_schema_refuses_it_as_well(schema: Draft7Validator, top: dict[str, Any]) -> None:
    assert not schema.is_valid({"protocol": "smtp", **top})


@pytest.mark.parametrize("fault", FRAMES, ids=str)
def test_what_no_frame_or_field_can_carry_is_refused(fault: dict[str, Any]) -> None:
    with pytest.raises(ScenarioError, match="allowed"):
        loads(document(rule("request", **fault), protocol="http"))


@pytest.mark.parametrize(
    ("protocol", "top", "made"),
    [
        ("http", {"server": {"max_streams": limits.SETTING}}, rule("request", goaway={"last": limits.STREAM})),
        ("http", {}, rule("request", origin=["https://" + "x" * limits.HOST] * 50, altsvc="x" * 15_000)),
        ("http", {}, rule("request", status=503, headers={"x": "y" * limits.FIELD})),
        ("ftp", {"server": {"files": {"x" * 255: "1GB"}, "quota": limits.NUMBER}}, rule("retr", after_bytes=limits.NUMBER, close=True)),
    ],
)  # fmt: skip
def test_what_is_at_the_limit_plays(protocol: str, top: dict[str, Any], made: dict[str, Any]) -> None:
    play(loads(document(made, protocol=protocol, **top)))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(HOSTS), min_size=1, max_size=2))
def test_a_certificate_can_have_each_name_that_is_allowed(names: list[str]) -> None:
    if load(document(phase(), server={"tls": "implicit"}, certificate={"c": {"names": names}})):
        assert context(Shown(tuple(names)))


@settings(max_examples=200, deadline=None)
@given(st.lists(NAMES, max_size=4, unique=True))
def test_a_tree_can_have_all_names_that_are_allowed_and_no_others(names: list[str]) -> None:
    try:
        Files(dict.fromkeys(names, "x"), None, lambda: 0.0)
        fits = True
    except ValueError:
        fits = False
    long = any(
        len(name) > limits.PATH for name in names
    )  # a tree in memory has no such limit: what a client names is its own affair
    assert fits or any(tree_faults(names))
    assert long or fits == (not any(tree_faults(names)))
