"""Stock HTTP clients where one request does not tell enough: told to try again, at a cap, with two hosts at once."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import programs
import pytest
from clients import PATIENCE
from http_clients import CLIENTS, DONE, EVERYBODY, Job, assert_served_whole, attempt, requests, trail
from tables import Row, pairs, read

from notnow import FakeHTTP, ManualClock
from toml_rules import one, rules

if TYPE_CHECKING:
    from clients import Client
    from coverage_table import Proves

# ---- told to try again ------------------------------------------------------------------------------

# httpx takes `retries` for connections that cannot be made, and for no status. curl takes --retry for 503 and others,
# but for no 421 unless it is to mind all errors: then it goes to the connection that was told 421.
BY_ITSELF = """
scenario and knobs        |way      |at |httpx         |httpx-async   |curl
misdirected-times         |get retry|421|got 421       |got 421       |got 421
connection-reset          |get retry|cut|done: cut;200 |done: cut;200 |exit 7/exit 35
connection-reset stage=tls|get retry|cut|done: cut;200 |done: cut;200 |35
stream-reset              |get retry|RST|RemoteProtocol|RemoteProtocol|done: RST;200
overload                  |get retry|503|got 503       |got 503       |-
"""
TRIES = {"httpx", "httpx-async", "curl"}


@pytest.mark.parametrize(
    ("row", "client"), pairs(read("http", BY_ITSELF), [c for c in CLIENTS.values() if c.name in TRIES])
)
def test_tries_again_by_itself(row: Row, client: Client[Job], tmp_path: Path) -> None:
    with FakeHTTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        report = attempt(client, fake, tmp_path, row.way)
        said, _, seen = row.says[client.name].partition(": ")
        assert report.said in said.split("/"), report.text
        assert trail(fake) == (seen or row.at)


ALL_ERRORS = ("--fail", "--retry-all-errors", "--retry-delay", "1")


@pytest.mark.parametrize("way", ["get retry", "post retry"])
def test_curl_minds_all_errors_and_stays_where_it_is(way: str, tmp_path: Path, proves: Proves) -> None:
    """Told 421, it asks again on the connection that was the wrong one; a body comes again, all of it."""
    programs.need("curl", "curl")
    with FakeHTTP("http/misdirected-times") as fake:
        report = attempt(CLIENTS["curl"], fake, tmp_path, way, options=ALL_ERRORS)
        assert report.said == DONE, report.text
        assert trail(fake) == "421,200"
        assert_served_whole(fake)
        fake.assert_retried(times=1, first_delay=1)
        with pytest.raises(AssertionError, match="on another connection after a 421, but it tried again on the same"):
            fake.assert_new_connection_after(421)
        fake.assert_expected()
        proves("http/misdirected-times", "curl")


def test_curl_comes_on_a_new_connection_if_that_one_is_closed(tmp_path: Path) -> None:
    programs.need("curl", "curl")
    with FakeHTTP(_site(one("request", status=421, close=True, times=1))) as fake:
        report = attempt(CLIENTS["curl"], fake, tmp_path, "get retry", options=ALL_ERRORS)
        assert report.said == DONE, report.text
        assert trail(fake) == "421;200"
        fake.assert_new_connection_after(421)


def test_curl_heeds_retry_after(tmp_path: Path) -> None:
    """It would wait for a second, and waits for two."""
    programs.need("curl", "curl")
    with FakeHTTP(_site(one("request", status=503, headers={"retry-after": 2}, times=1))) as fake:
        report = attempt(CLIENTS["curl"], fake, tmp_path, "post retry")
        assert report.said == DONE, report.text
        assert trail(fake) == "503,200"
        assert_served_whole(fake)
        fake.assert_retried(times=1, first_delay=2)


@pytest.mark.parametrize("name", ["httpx", "httpx-async"])
def test_httpx_takes_a_request_elsewhere_that_was_not_served(name: str, tmp_path: Path) -> None:
    """If there was one that was: a GOAWAY whose last stream is 0 is an error to it, and any other is none."""
    with FakeHTTP(_site(one("request", nth=2, goaway={"last": "previous"}))) as fake:
        assert attempt(CLIENTS[name], fake, tmp_path, "get twice").said == DONE
        assert trail(fake) == "200,GOAWAY;200"


# ---- caps -------------------------------------------------------------------------------------------

CAPS = """
scenario and knobs                   |way |at |httpx  |httpx-async|aiohttp        |curl          |nghttp |node      |undici
connection-cap cap=1                 |get |503|got 503|got 503    |got 503        |got 503       |got 503|got 503   |got 503
connection-cap cap=1 like=misdirected|get |421|got 421|got 421    |got 421        |got 421       |got 421|got 421   |UND_ERR_SOCKET
connection-cap cap=1 like=closed     |get |cut|Connect|Connect    |ClientConnector|35            |nothing|ECONNRESET|ECONNRESET
connection-cap cap=1 like=reset      |post|cut|Connect|Connect    |ClientConnector|exit 7/exit 35|nothing|ECONNRESET|ECONNRESET
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("http", CAPS), CLIENTS.values()))
def test_gets_the_place_that_another_leaves(row: Row, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeHTTP(row.scenario, **row.knobs) as fake:
        with _guest(fake):
            report = attempt(client, fake, tmp_path, row.way)
            assert report.said in row.says[client.name].split("/"), report.text
            assert trail(fake) == row.at
        fake.settle()
        report = attempt(client, fake, tmp_path, row.way)
        assert report.said == DONE, report.text
        assert_served_whole(fake)
        fake.assert_expected()
        proves(row.scenario, client.name)


@contextlib.contextmanager
def _guest(fake: FakeHTTP) -> Iterator[None]:
    """Somebody else's connection, which has a place for as long as the block lasts."""
    with socket.create_connection((fake.host, fake.port), PATIENCE) as other:
        with fake.ssl_context().wrap_socket(other, server_hostname="localhost"):
            yield


@pytest.mark.parametrize("client", [p for p in EVERYBODY if p.id != "nghttp"])
def test_is_over_the_rate_of_requests(client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeHTTP("http/rate-limited", requests=1, clock=ManualClock()) as fake:
        assert attempt(client, fake, tmp_path, "get twice").said == "done, got 429"
        assert trail(fake) == "200,429"
        fake.clock.advance("61s")
        assert attempt(client, fake, tmp_path).said == DONE
        fake.assert_expected()
        proves("http/rate-limited", client.name)


# ---- two hosts on one connection --------------------------------------------------------------------


@pytest.mark.parametrize("way", ["get both coalesce", "post both coalesce"])
def test_node_shares_a_connection_if_it_is_told_to(way: str, tmp_path: Path, proves: Proves) -> None:
    """The 421 is the program's to deal with, and the origin is no longer one that Node thinks the connection good for."""
    programs.need("node", "nodejs")
    origins = [f"https://{host}:{{port}}" for host in ("a.site.test", "b.site.test")]
    misdirected = one("request", where={"misdirected": "sni"}, status=421)
    with FakeHTTP(_site(misdirected, one("request", first=1, origin=origins))) as fake:
        report = attempt(CLIENTS["node"], fake, tmp_path, way)

        assert report.said == "done, got 421", report.text
        assert trail(fake) == "200,421"
        first, second = requests(fake)
        assert second.facts is not None
        assert second.connection.tls is not None
        assert second.connection.tls.sni == "a.site.test"
        assert second.facts.authority == f"b.site.test:{fake.port}"
        assert second.facts.misdirected == ("sni",)
        before, after = [set(json.loads(line)["origins"]) for line in report.text.splitlines()[:2]]
        good, bad = (f"https://{host}:{fake.port}" for host in ("a.site.test", "b.site.test"))
        assert (before, after) == ({good, bad}, {good})

        assert attempt(CLIENTS["node"], fake, tmp_path, way.removesuffix(" coalesce")).said == DONE
        assert_served_whole(fake)


def _site(*texts: str) -> Any:
    """A scenario of these rules, for two hosts that have one certificate."""
    head = '[server]\ntls = "implicit"\n[certificate.shared]\nnames = ["a.site.test", "b.site.test"]\n'
    return rules(*texts, protocol="http", head=head)
