"""Chromium, which coalesces the connections of one site: what it does with a 421 (RFC 9110 §15.5.20), and with the rest.

Seen of Chromium 156. It opens spare connections, so that nothing here counts connections: requests are looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import programs
import pytest
from http_clients import digest
from http_pages import HOME, OTHER, site, visit

from notnow import FakeHTTP
from toml_rules import one, rules

if TYPE_CHECKING:
    from coverage_table import Proves

SERVED = "200 6"
CORS = {"access-control-allow-origin": f"https://{HOME}:{{port}}", "access-control-allow-credentials": "true"}
POST: dict[str, Any] = {"method": "POST", "size": 200_000}
BODY = digest(b"N" * 200_000)


@pytest.fixture(autouse=True)
def browser() -> None:
    programs.need("chromium", "chromium")
    programs.need("certutil", "libnss3-tools")


def _thing(*texts: str) -> Any:
    """A scenario of these rules, for two hosts of one site that have one certificate."""
    head = f'[server]\ntls = "implicit"\n[certificate.shared]\nnames = ["{HOME}", "{OTHER}"]\n'
    return rules(*texts, protocol="http", head=head)


# ---- on a connection that was made for another host -------------------------------------------------


@pytest.mark.parametrize("how", [{}, POST], ids=["get", "post"])
def test_coalesces(how: dict[str, Any], tmp_path: Path) -> None:
    with FakeHTTP(_thing(), app=site) as fake:
        found = visit(fake, tmp_path, **how)
        assert (found.said, found.ends) == (SERVED, [(HOME, 200)])
        (request,) = found.asked
        assert request.facts is not None
        assert request.facts.authority == f"{OTHER}:{fake.port}"
        assert request.facts.misdirected == ("sni",)


def test_shares_nothing_without_credentials(tmp_path: Path) -> None:
    with FakeHTTP(_thing(), app=site) as fake:
        found = visit(fake, tmp_path, credentials="omit")
        assert (found.said, found.ends) == (SERVED, [(OTHER, 200)])


@pytest.mark.parametrize("like", ["apache", "nginx", "haproxy", "contour"])
@pytest.mark.parametrize("how", [{}, POST], ids=["get", "post"])
def test_tries_again_on_a_connection_of_its_own(how: dict[str, Any], like: str, tmp_path: Path, proves: Proves) -> None:
    """Once, at once, and with its body; the page is told of nothing."""
    with FakeHTTP("http/coalesced", like=like, app=site) as fake:
        found = visit(fake, tmp_path, **how)

        assert (found.said, found.ends) == (SERVED, [(HOME, 421), (OTHER, 200)])
        assert [x.facts and x.facts.misdirected for x in found.asked] == [("sni",), ()]
        if how:
            assert found.asked[-1].facts is not None
            assert found.asked[-1].facts.body_sha256 == BODY
        fake.assert_new_connection_after(421)
        fake.assert_expected()
        proves("http/coalesced", "chromium")


def test_tries_again_once_only(tmp_path: Path) -> None:
    """The second 421 is the page's."""
    with FakeHTTP(_thing(one("request", where={"path": "/thing"}, status=421, headers=CORS)), app=site) as fake:
        found = visit(fake, tmp_path)
        assert (found.said, found.ends) == ("421 0", [(HOME, 421), (OTHER, 421)])


# ---- on the right connection ------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, POST], ids=["get", "post"])
def test_stays_where_the_name_was_right(how: dict[str, Any], tmp_path: Path) -> None:
    """It tries again there as well, on the same connection, and then gives up."""
    with FakeHTTP(_thing(one("request", where={"path": "/thing"}, status=421)), app=site) as fake:
        found = visit(fake, tmp_path, HOME, **how)
        assert (found.said, found.ends) == ("421 0", [(HOME, 421), (HOME, 421)])
        assert len({x.connection for x in found.asked}) == 1


def test_cannot_send_a_stream_twice(tmp_path: Path) -> None:
    with FakeHTTP(_thing(one("request", where={"path": "/thing"}, status=421)), app=site) as fake:
        found = visit(fake, tmp_path, HOME, stream=True, **POST)
        assert (found.said, found.ends) == ("421 0", [(HOME, 421)])


# What a request of HOME gets first, what the page gets, and how many requests there were.
SMALL: dict[str, Any] = {
    "method": "POST",
    "size": 1_000,
}  # a RST_STREAM before the first byte of a big body may stop Chromium for good
NEIGHBOURS: dict[str, tuple[dict[str, Any], str, int]] = {
    "unavailable": ({"status": 503, "headers": {"retry-after": 1}}, "503 0", 1),
    "refused stream": ({"reset_stream": "REFUSED_STREAM"}, SERVED, 2),
    "cancelled stream": ({"reset_stream": "CANCEL"}, "TypeError", 1),
    "graceful GOAWAY": ({"goaway": True}, SERVED, 1),
    "GOAWAY, not served": ({"goaway": {"last": "previous"}}, SERVED, 2),
    "reset": ({"close": "reset"}, SERVED, 2),
    "closed": ({"close": True}, SERVED, 2),
}


@pytest.mark.parametrize("name", NEIGHBOURS)
@pytest.mark.parametrize("how", [{}, SMALL], ids=["get", "post"])
def test_tries_again_where_it_was_not_served(name: str, how: dict[str, Any], tmp_path: Path) -> None:
    """A connection that is lost counts among that if it was not new: the page has come on it."""
    fault, said, times = NEIGHBOURS[name]
    with FakeHTTP(_thing(one("request", where={"path": "/thing"}, times=1, **fault)), app=site) as fake:
        found = visit(fake, tmp_path, HOME, **how)
        assert (found.said, len(found.asked)) == (said, times)
        if how and said == SERVED:
            assert found.asked[-1].facts is not None
            assert found.asked[-1].facts.body_sha256 == digest(b"N" * SMALL["size"])
