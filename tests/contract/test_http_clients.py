"""Stock HTTP clients meet the catalogue: what they make of a refusal, whether they try again, and on which connection.

What the tables hold was seen of httpx 0.28, aiohttp 3.14, curl 7.88, nghttp 1.52, Node 20 and undici 7.30. aiohttp
speaks HTTP/1.1, all others HTTP/2 unless the way says `h1`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import programs
import pytest
from http_clients import (
    CLIENTS,
    DONE,
    EVERYBODY,
    PATH,
    UPLOAD,
    Job,
    assert_served_whole,
    attempt,
    digest,
    requests,
    trail,
)  # fmt: skip
from tables import Row, pairs, read

from notnow import FakeHTTP, ManualClock

if TYPE_CHECKING:
    from pathlib import Path

    from clients import Client
    from coverage_table import Proves

LATER = "10m"  # when the clients try again: by then what passes has passed

# A cell is what the client says, and after a colon what the fake saw: a status for each request, or how else it ended,
# with `,` between the requests of one connection and `;` before those of the next. Where there is no colon it is as in
# the third column. `/` stands between words of which one is said: who has lost a connection may notice it when it reads
# or when it writes.
#
# Of a 421, only undici makes a retry, as Fetch has it: one, with the body, on HTTP/2 on the connection that was told
# 421; where that connection has said GOAWAY it has an error instead of the answer. aiohttp tries again once after a lost
# connection if the method is idempotent, and curl after REFUSED_STREAM, whatever the method. A GOAWAY, the graceful one
# too, takes httpx and undici out of a request that is in flight; curl is lost where it was not served (exit 16, not
# tried again although it might). nghttp minds no certificate, and says nothing where it got nothing, with exit 0. An
# upload on a stream that was reset is a trap for httpx: it waits for room to send more, until its time-out.
REFUSED = """
scenario and knobs                    |way            |at    |httpx                    |httpx-async              |aiohttp                   |curl           |nghttp      |node                           |undici
misdirected-forever                   |get            |421   |got 421                  |got 421                  |got 421                   |got 421        |got 421     |got 421                        |got 421: 421,421
misdirected-forever                   |get h1         |421   |got 421                  |got 421                  |got 421                   |got 421        |-           |-                              |got 421: 421;421
misdirected-forever                   |post           |421   |got 421                  |got 421                  |got 421                   |got 421        |got 421     |got 421                        |got 421: 421,421
misdirected-times                     |get            |421   |got 421                  |got 421                  |got 421                   |got 421        |got 421     |got 421                        |done: 421,200
misdirected-times                     |get h1         |421   |got 421                  |got 421                  |got 421                   |got 421        |-           |-                              |done: 421;200
misdirected-times                     |post h1        |421   |got 421                  |got 421                  |got 421                   |got 421        |-           |-                              |done: 421;200
misdirected-post                      |post           |421   |got 421                  |got 421                  |got 421                   |got 421        |got 421     |got 421                        |done: 421,200
early-421                             |post           |421   |got 421                  |got 421                  |got 421                   |got 421        |got 421     |got 421                        |done: 421,200
early-421                             |post h1        |421   |got 421                  |got 421                  |got 421                   |got 421        |-           |-                              |done: 421;200
overload                              |get            |503   |got 503                  |got 503                  |got 503                   |got 503        |got 503     |got 503                        |got 503
weather chance=100%                   |get            |503   |got 503                  |got 503                  |got 503                   |got 503        |got 503     |got 503                        |got 503
overload                              |post           |503   |got 503                  |got 503                  |got 503                   |got 503        |got 503     |got 503                        |got 503
connection-reset                      |get            |cut   |Connect                  |Connect                  |ClientConnector           |exit 7/exit 35 |nothing     |ECONNRESET                     |ECONNRESET
connection-reset how=fin              |get            |cut   |Connect                  |Connect                  |ClientConnector           |35             |nothing     |ECONNRESET                     |ECONNRESET
connection-reset stage=tls            |get            |cut   |Connect                  |Connect                  |ClientConnector           |35             |nothing     |ECONNRESET                     |ECONNRESET
connection-reset stage=request        |get            |cut   |Write/Read/RemoteProtocol|Write/Read/RemoteProtocol|done: cut;200             |exit 55/exit 56|nothing     |ECONNRESET/nothing             |ECONNRESET/UND_ERR_SOCKET
connection-reset stage=request        |post           |cut   |Write/Read/RemoteProtocol|Write/Read/RemoteProtocol|ClientOS                  |exit 55/exit 56|nothing     |ECONNRESET/nothing             |ECONNRESET/UND_ERR_SOCKET
connection-reset stage=request how=fin|get            |cut   |RemoteProtocol           |RemoteProtocol           |done: cut;200             |18             |nothing     |nothing                        |UND_ERR_SOCKET
connection-reset stage=response       |get            |cut   |Write/Read/RemoteProtocol|Write/Read/RemoteProtocol|done: cut;200             |exit 55/exit 56|nothing     |ECONNRESET/nothing             |ECONNRESET/UND_ERR_SOCKET
unrecognized-name                     |get            |cut   |Connect                  |Connect                  |ClientConnectorSSL        |35             |nothing     |ERR_SSL_TLSV1_UNRECOGNIZED_NAME|ERR_SSL_TLSV1_UNRECOGNIZED_NAME
expired-certificate                   |get            |      |Connect                  |Connect                  |ClientConnectorCertificate|60             |done: 200   |CERT_HAS_EXPIRED               |CERT_HAS_EXPIRED
untrusted-certificate                 |get            |      |Connect                  |Connect                  |ClientConnectorCertificate|60             |done: 200   |UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_VERIFY_LEAF_SIGNATURE
incomplete-chain                      |get            |      |Connect                  |Connect                  |ClientConnectorCertificate|60             |done: 200   |UNABLE_TO_VERIFY_LEAF_SIGNATURE|UNABLE_TO_VERIFY_LEAF_SIGNATURE
stale-certificate                     |get            |      |Connect                  |Connect                  |ClientConnectorCertificate|60             |got 421: 421|ERR_TLS_CERT_ALTNAME_INVALID   |ERR_TLS_CERT_ALTNAME_INVALID
stream-reset                          |get            |RST   |RemoteProtocol           |RemoteProtocol           |done: RST;200             |done: RST;200  |nothing     |ERR_HTTP2_STREAM_ERROR         |ERR_HTTP2_STREAM_ERROR
stream-reset                          |post quick>post|RST   |ReadTimeout              |ReadTimeout              |ClientOS                  |done: RST;200  |nothing     |ERR_HTTP2_STREAM_ERROR         |ERR_HTTP2_STREAM_ERROR
stream-reset code=CANCEL              |get            |RST   |RemoteProtocol           |RemoteProtocol           |done: RST;200             |92             |nothing     |nothing                        |UND_ERR_INFO/exit 13
stream-reset code=ENHANCE_YOUR_CALM   |get            |RST   |RemoteProtocol           |RemoteProtocol           |done: RST;200             |92             |nothing     |ERR_HTTP2_STREAM_ERROR         |ERR_HTTP2_STREAM_ERROR
goaway-mid-request                    |get            |GOAWAY|RemoteProtocol           |RemoteProtocol           |done: cut;200             |16             |nothing     |ERR_HTTP2_STREAM_ERROR         |UND_ERR_SOCKET
goaway-mid-request                    |post           |GOAWAY|RemoteProtocol           |RemoteProtocol           |ServerDisconnected: cut   |16             |nothing     |ERR_HTTP2_STREAM_ERROR         |UND_ERR_SOCKET
goaway-mid-request                    |get h1         |cut   |RemoteProtocol           |RemoteProtocol           |done: cut;200             |52             |-           |-                              |UND_ERR_SOCKET
truncated                             |get            |200   |RemoteProtocol           |RemoteProtocol           |ClientPayload             |92             |-           |ERR_HTTP2_STREAM_ERROR         |ERR_HTTP2_STREAM_ERROR
truncated how=fin                     |get            |200   |RemoteProtocol           |RemoteProtocol           |ClientPayload             |18             |-           |-                              |UND_ERR_SOCKET
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("http", REFUSED), CLIENTS.values()))
def test_is_refused_and_gets_through_later(row: Row, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeHTTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        report = attempt(client, fake, tmp_path, row.way_of(0))

        said, _, seen = row.says[client.name].partition(": ")
        assert report.said in said.split("/"), report.text
        assert trail(fake) == (seen or row.at)
        assert_served_whole(fake)

        if report.said != DONE:
            fake.clock.advance(LATER)
            if row.scenario == "http/misdirected-forever":
                fake.play("http/healthy")
            report = attempt(client, fake, tmp_path, row.way_of(1))
            assert report.said == DONE, report.text
            assert_served_whole(fake)
        fake.assert_expected()
        if "421,200" in seen:  # RFC 9110 §15.5.20 leaves the client free to do so
            with pytest.raises(
                AssertionError, match="on another connection after a 421, but it tried again on the same"
            ):
                fake.assert_new_connection_after(421)
        proves(row.scenario, client.name)


# ---- done at once -----------------------------------------------------------------------------------

# In `coalesced` nobody comes to the connection that is another host's: see test_http_chromium.py for who does. A GOAWAY
# that lets the request through sends the next one to a new connection.
AT_ONCE = """
scenario and knobs        |way      |at     |httpx                         |httpx-async                   |aiohttp|curl|nghttp|node|undici
healthy                   |get      |200    |done                          |done                          |done   |done|done  |done|done
healthy                   |post     |200    |done                          |done                          |done   |done|done  |done|done
healthy                   |post h1  |200    |done                          |done                          |done   |done|-     |-   |done
healthy                   |get twice|200,200|done                          |done                          |done   |done|-     |done|done
coalesced                 |get both |200;200|done                          |done                          |done   |done|-     |done|done
domain-fronting           |get both |200;200|done                          |done                          |done   |done|-     |done|done
certificate-mismatch      |post both|200;200|done                          |done                          |done   |done|-     |done|done
sni-mismatch              |get      |200    |done                          |done                          |done   |done|done  |done|done
goaway-graceful requests=1|get twice|200;200|RemoteProtocol, RemoteProtocol|RemoteProtocol, RemoteProtocol|done   |done|-     |done|UND_ERR_SOCKET, UND_ERR_SOCKET
goaway-graceful requests=1|post     |200    |-                             |-                             |done   |done|done  |done|-
"""


# The faults of these are for a client that comes to the wrong connection, or with the wrong name: for none here.
UNFIRED = ("http/coalesced", "http/domain-fronting", "http/certificate-mismatch", "http/sni-mismatch")


@pytest.mark.parametrize(("row", "client"), pairs(read("http", AT_ONCE), CLIENTS.values()))
def test_is_done_at_once(row: Row, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeHTTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        report = attempt(client, fake, tmp_path, row.way)

        assert report.said == row.says[client.name], report.text
        assert trail(fake) == row.at
        assert_served_whole(fake)
        fake.assert_delivered(times=1)
        if row.scenario not in UNFIRED:
            fake.assert_expected()
        proves(row.scenario, client.name)


def test_node_takes_half_an_answer_for_a_whole_one(tmp_path: Path) -> None:
    """A connection that ends in the middle of an answer ends the stream well, short of its content-length or not."""
    programs.need("node", "nodejs")
    with FakeHTTP("http/truncated", how="fin") as fake:
        report = attempt(CLIENTS["node"], fake, tmp_path)
        assert report.said == DONE, report.text
        assert len(json.loads(report.text)["body"]) == 100
        (request,) = requests(fake)
        assert request.facts is not None
        assert request.facts.whole is False


@pytest.mark.parametrize("client", EVERYBODY)
def test_is_known_by_what_it_says(client: Client[Job], tmp_path: Path) -> None:
    """What the journal holds of a request is what the client has been told to do."""
    with FakeHTTP("http/coalesced") as fake:
        assert attempt(client, fake, tmp_path, "post").said == DONE

        (request,) = requests(fake)
        facts, tls = request.facts, request.connection.tls
        assert facts is not None
        assert tls is not None
        h1 = client.name == "aiohttp"
        assert (tls.sni, tls.alpn, tls.certificate) == (fake.hosts[0], None if h1 else "h2", "shared")
        assert (facts.version, facts.method, facts.path) == ("1.1" if h1 else "2", "POST", PATH)
        assert (facts.authority, facts.misdirected) == (f"{fake.hosts[0]}:{fake.port}", ())
        assert (facts.status, facts.body_bytes, facts.body_sha256) == (200, len(UPLOAD), digest(UPLOAD))
        assert facts.stream == 1
