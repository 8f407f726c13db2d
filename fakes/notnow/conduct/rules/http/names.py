"""Rules about the host for which a connection is made, and the hosts for which it is used."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.http import has_name, host_of_connection, request
from notnow.conduct.reading.run import Run
from notnow.conduct.rules.rule import rule
from notnow.journal import Connection, Exchange
from notnow.units import plural


@rule(
    "http.sni-on-http2",
    title="An HTTP/2 client names its host in the TLS handshake.",
    level="must",
    source="RFC 9113 §9.2",
    why="Without a name the server picks a certificate of its own choice, or none, and answers 421.",
    proof="an HTTP/2 request for a host that has a name, on a connection without an SNI",
    example="TLS without an SNI\nC: GET a.site.test/",
)
def sends_sni_on_http2(run: Run) -> Finding:
    return _sends_sni(run, "2")


@rule(
    "http.sni-on-http1",
    title="An HTTP/1.1 client over TLS names its host in the handshake.",
    level="should",
    source="RFC 6066 §3 (RECOMMENDED)",
    why="Proxies that send no SNI (nginx without proxy_ssl_server_name) get 421 from Apache 2.4.64 and later.",
    proof="an HTTP/1 request for a host that has a name, on a TLS connection without an SNI",
    example="TLS without an SNI\nC: GET a.site.test/",
)
def sends_sni_on_http1(run: Run) -> Finding:
    return _sends_sni(run, "1.1", "1.0")


def _sends_sni(run: Run, *versions: str) -> Finding:
    named = 0
    for x in run.requests:
        tls, host = x.connection.tls, request(x).host
        if tls is None or request(x).version not in versions or not has_name(host):
            continue
        if tls.sni is None:
            return broken(f"{host} was asked for on a connection without an SNI", x.connection, x)
        named += 1
    return held(f"{plural(named, 'request')} on connections with an SNI") if named else NOT_EXERCISED


@rule(
    "http.coalesce-only-covered",
    title="The client uses a connection for another host only if its certificate covers that host.",
    level="must",
    source="RFC 9113 §9.1.1; RFC 9110 §4.3.3, §4.3.4",
    why="The server has not proved that it is that host, and the request may go to a stranger.",
    proof="a request for a host other than that of the SNI, not covered by the certificate shown; DNS lookups are not visible here",
    example="TLS with SNI a.site.test, certificate for a.site.test\nC: GET b.site.test/",
)
def coalesces_what_is_covered(run: Run) -> Finding:
    foreign = 0
    firsts: dict[Connection, Exchange] = {}
    for x in run.requests:
        first = firsts.setdefault(x.connection, x)
        made_for = host_of_connection(x.connection, first)
        if x.connection.tls is None or request(x).host in (made_for, ""):
            continue
        foreign += 1
        if "certificate" in request(x).misdirected:
            why = f"{request(x).host} was asked for on a connection for {made_for}, whose certificate does not cover it"
            return broken(why, *([first] if first is not x else []), x)
    return held(f"{plural(foreign, 'request')} for other hosts, all covered") if foreign else NOT_EXERCISED
