"""The control API under attack: what no client library would send, byte by byte, and what becomes of the fakes meanwhile."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from control_api import API, running
from notnow.control import app


@pytest.fixture(scope="module")
def one_api() -> Iterator[API]:
    with running() as api:
        yield api


@pytest.fixture
def api(one_api: API) -> Iterator[API]:
    one_api.start("smtp/overload", name="mx")
    yield one_api
    one_api.clear()


def address(api: API) -> tuple[str, int]:
    host, port = api.url.removeprefix("http://").split(":")
    return host, int(port)


def exchange(api: API, data: bytes, patience: float = 20.0) -> bytes:
    """Everything that is answered to these bytes until the server closes."""
    with socket.create_connection(address(api), timeout=patience) as sock:
        sock.sendall(data)
        return b"".join(iter(lambda: sock.recv(65536), b""))


def request(line: bytes, body: bytes | None = None, *headers: bytes) -> bytes:
    lines = [line + b" HTTP/1.1", b"Host: 127.0.0.1", b"Connection: close", *headers]
    if body is not None:
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def refusal(answer: bytes) -> Any:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer[:500]
    return json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


KNOB = (
    'protocol = "smtp"\n[params]\nw = "x"\n[[phase]]\nname = "a"\n[[phase.rule]]\non = "connect"\nreply = "421 {w}"\n'
)


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        (b'{"speed": NaN}', 400, "NaN is no number of JSON"),
        (b'{"speed": -Infinity}', 400, "-Infinity is no number of JSON"),
        (b'{"speed": 1, "knobs": {"a": 1, "a": 2}}', 400, "the key 'a' is given twice"),
        (b'{"name": "\\ud800"}', 400, "half of a surrogate pair is no character"),
        (b'{"users": {"\\uDFFF": "x"}}', 400, "half of a surrogate pair is no character"),
        (
            b'{"toml": %s, "knobs": {"w": "\\ud800"}}' % json.dumps(KNOB).encode(),
            400,
            "half of a surrogate pair is no character",
        ),
        (b'{"seed": %s}' % (b"9" * 5000), 400, "the body is no JSON"),
        (b'{"seed": %s}' % (b"9" * 4000), 422, "seed: "),
        (b'{"speed": 1e999}', 422, "speed: "),
        (b'{"speed": false}', 422, "speed: "),
        (b'{"port": "25"}', 422, "port: "),
        (b'{"ttl": 1e308}', 422, "ttl: 1e+308 is longer than a century"),
        (b'{"ttl": "%s"}' % (b"9" * 400), 422, "ttl: "),
        (b'{"toml": "a = \\"\\u0000\\""}', 422, "not valid TOML"),
        (b'{"toml": "a = %s"}' % (b"[" * 5000), 422, "nested too deeply"),
        (b'{"toml": "a = 0x%s"}' % (b"f" * 5000), 422, "more than 64 bits"),
        (b'{"scenario": "%s"}' % ("é" * 200).encode(), 422, "there is no scenario"),
        (b'{"scenario": "smtp/overload", "knobs": {"self": 1}}', 422, "there is no knob 'self'"),
        (b'{"scenario": "ftp/healthy", "files": {"x": "999999999GB"}}', 422, "up to 1GB"),
    ],
)  # fmt: skip
def test_bodies_that_hold_what_is_no_value(api: API, body: bytes, code: int, said: str) -> None:
    answer = exchange(api, request(b"POST /v1/servers", body))
    assert status(answer) == code, answer[:300]
    assert said in refusal(answer)["detail"]
    assert len(api.fleet.members()) == 1


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"GET /v1/servers/%00", 404),
        (b"GET /v1/servers/%ff%fe", 404),
        (b"GET /v1/servers/%2f%2e%2e%2f", 404),
        (b"GET /v1/servers/mx/files/%00%ff/../../x", 422),
        (b"GET /v1/servers/mx/exchanges/999999999999999/why", 404),
        (b"GET /v1/scenarios/" + b"a" * 5000, 404),
        (b"GET /v1/scenarios/smtp/%00", 404),
        (b"GET /assets/..%2f..%2fpage.py", 404),
        (b"GET /?group=%00%ff<script>", 404),
        (b"GET /v1/timeline?group=%00%ff", 404),
        (b"GET /v1/copy?rule=%00%ff", 422),
        (b"GET /v1/verdict?count=" + b"9" * 40, 422),
        (b"GET /v1/verdict?server=%00,mx", 404),
        (b"GET /v1/servers/mx/wait?connect=%d9%a3", 422),  # a digit, and none of ours
        (b"GET http://evil.test/v1/servers", 404),
        (b"OPTIONS *", 404),
    ],
)  # fmt: skip
def test_paths_and_queries_that_mean_nothing(api: API, line: bytes, code: int) -> None:
    answer = exchange(api, request(line))
    assert (status(answer), refusal(answer)["status"]) == (code, code), answer[:300]


@pytest.mark.parametrize(
    ("header", "code"),
    [
        (b"Origin: http://[", 403),
        (b"Origin: \xff\x80", 403),
        (b"Authorization: Bearer \xff", 200),
        (b"Cookie: notnow-token=\xff", 200),
        (b"If-None-Match: \xff", 200),
        (b"X: " + b"a" * 100_000, 431),
        (b"\r\n".join([b"X: a"] * 20_000), 431),
        (b"Content-Length: -1", 400),
    ],
)
def test_headers_that_mean_nothing(api: API, header: bytes, code: int) -> None:
    assert status(exchange(api, request(b"GET /v1/servers", None, header))) == code


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("OPTIONS", "/v1/servers", {"GET", "HEAD", "POST"}),
        ("TRACE", "/v1/servers/mx", {"GET", "HEAD", "DELETE"}),
        ("PUT", "/v1/servers/mx/rules", {"GET", "HEAD"}),
        ("OPTIONS", "/v1/scenarios/check", {"POST"}),
        ("PATCH", "/v1/servers/mx/scenario", {"PUT"}),
    ],
)
def test_a_method_that_a_path_does_not_have(api: API, method: str, path: str, allowed: set[str]) -> None:
    answer = api.http.request(method, path)
    assert answer.status_code == 405
    assert set(answer.headers["allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/v1/servers", "/v1/events", "/", "/v1/openapi.json"])
def test_a_head_is_answered_at_once_without_a_body(api: API, path: str) -> None:
    answer = exchange(api, request(b"HEAD " + path.encode()))
    assert status(answer) == 200
    assert answer.endswith(b"\r\n\r\n")


def test_a_body_that_does_not_come(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "READING", 0.1)
    headers = b"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 100\r\n"
    answer = exchange(api, b"POST /v1/servers HTTP/1.1\r\n" + headers + b"\r\n{")
    assert status(answer) == 408
    assert refusal(answer)["detail"] == "the body did not come within 0.1 s"


def test_a_client_that_leaves_in_the_middle_of_a_body_is_no_error_of_ours(
    api: API, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(address(api)) as sock:
        sock.sendall(
            b"POST /v1/servers HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
        )
    assert status(exchange(api, request(b"POST /v1/servers", None, b"Transfer-Encoding: chunked") + b"zz\r\n")) == 400
    assert api.get("/v1/servers")["servers"][0]["name"] == "mx"
    assert capfd.readouterr().err == ""


def test_a_body_is_waited_for_with_100_continue(api: API) -> None:
    asked = request(b"POST /v1/scenarios/check", b'{"toml": ""}', b"Expect: 100-continue")
    answer = exchange(api, asked)
    assert answer.startswith(b"HTTP/1.1 100")
    assert status(answer.partition(b"\r\n\r\n")[2]) == 200
