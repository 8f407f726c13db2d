"""Which lines are HTTP's, at a server that speaks something else."""

from __future__ import annotations

import pytest

from notnow.servers.base.http_lines import is_header, is_request_line


@pytest.mark.parametrize(
    "line",
    [
        "GET / HTTP/1.1",
        "POST /a?b=c HTTP/1.0",
        "GET",
        "GET /index.html",
        "CONNECT mx.test:25 HTTP/1.1",
        "PRI * HTTP/2.0",
        "PROPFIND / HTTP/1.1",
        "get / HTTP/1.1",
        "get x",
        "post / http/1.1",
        "query /a http/1.1",
        "GET / HTTP/1.1 ",
    ],
)
def test_a_request_line(line: str) -> None:
    assert is_request_line(line)


@pytest.mark.parametrize("line", ["", "GETS /", "NOOP HTTP", "NOOP HTTP/", "SITE x HTTP/1.1x", "HTTP/1.1"])
def test_no_request_line(line: str) -> None:
    assert not is_request_line(line)


@pytest.mark.parametrize("line", ["Host: fake", "Host:", "Content-Length: 3", "X_Y!: z", "From:<a@b>"])
def test_a_header(line: str) -> None:
    assert is_header(line)


@pytest.mark.parametrize("line", ["", ":", "Host : fake", "XFOO a: b", "{}", "\x16\x03:", "Sübject: x"])
def test_no_header(line: str) -> None:
    assert not is_header(line)
