"""Who may call the control API: nobody from another page, under another name, or without the token."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from control_api import API, PROBLEM, running
from notnow.control.app import application
from notnow.control.fleet import Fleet


@pytest.fixture(scope="module")
def api() -> Iterator[API]:
    with running() as api:
        yield api


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "LOCALHOST:8421", "app.localhost", "[::1]:8421", "127.9.9.9"]
)
def test_names_of_this_machine(api: API, host: str) -> None:
    assert api.http.get("/v1/servers", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.test", "evil.test:8421", "127.0.0.1.evil.test", "localhost.evil.test", "10.0.0.1", "", "[", "a@127.0.0.1.x"],
)
def test_a_name_that_points_here_by_dns_rebinding(api: API, host: str) -> None:
    assert "allowed: a name or address of this machine" in api.refused(
        "GET", "/v1/servers", 403, headers={"host": host}
    )


@pytest.mark.parametrize("origin", ["http://evil.test", "null", "http://127.0.0.1:1", "https://localhost", "file://"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_page_of_another_origin(api: API, origin: str, method: str) -> None:
    said = api.refused(method, "/v1/servers", 403, headers={"origin": origin, "content-type": "application/json"})
    assert f"Origin is {origin!r}" in said
    assert api.get("/v1/servers") == {"servers": []}


def test_the_page_of_this_api(api: API) -> None:
    host = api.url.removeprefix("http://")
    assert api.http.get("/v1/servers", headers={"origin": api.url, "host": host}).status_code == 200


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)]
)
def test_where_a_browser_says_that_a_request_comes_from(api: API, site: str, status: int) -> None:
    assert api.http.get("/v1/servers", headers={"sec-fetch-site": site}).status_code == status


def test_a_link_on_another_site_may_lead_here(api: API) -> None:
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert api.http.get("/v1/servers", headers=headers).status_code == 200
    framed = {**headers, "sec-fetch-dest": "iframe"}
    assert api.http.get("/v1/servers", headers=framed).status_code == 403
    for method in ("POST", "DELETE"):
        assert "cross-site" in api.refused(method, "/v1/servers", 403, headers=headers), "a form is no link"


@pytest.mark.parametrize("path", ["/v1/servers", "/v1/nothing", "/v1/openapi.json", "/v1/servers/nobody"])
def test_every_answer_keeps_a_browser_from_running_it(api: API, path: str) -> None:
    headers = api.http.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
    assert headers["referrer-policy"] == "no-referrer"  # a link in the page does not tell where it was
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_a_link_with_the_token_opens_the_page() -> None:
    async def ask() -> list[httpx.Response]:
        transport = httpx.ASGITransport(application(Fleet(), "s3cret", asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url="http://build-7.test") as client:
            return [
                await client.get(path)
                for path in ("/?token=wrong", "/v1/servers?token=s3cret", "/?token=s3cret", "/v1/servers")
            ]

    wrong, elsewhere, link, after = asyncio.run(ask())
    assert (wrong.status_code, elsewhere.status_code) == (401, 401)
    assert (link.status_code, link.headers["location"]) == (303, "/")
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in link.headers["set-cookie"].split(";")}
    assert after.status_code == 200
    assert "s3cret" not in f"{link.headers['location']}{link.text}{after.text}"  # only the cookie has it
    assert link.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"authorization": "Bearer s3cret"}, 200),
        ({"cookie": "a=b; notnow-token=s3cret"}, 200),
        ({"cookie": "notnow-token=wrong"}, 401),
        ({"authorization": "Bearer s3cret", "origin": "http://evil.test"}, 403),
    ],
)
def test_with_a_token_every_call_needs_it(headers: dict[str, str], status: int) -> None:
    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(application(Fleet(), "s3cret", asyncio.Event()))
        async with httpx.AsyncClient(transport=transport, base_url="http://build-7.test") as client:
            return await client.get("/v1/servers", headers=headers)

    answer = asyncio.run(ask())
    assert answer.status_code == status
    if status == 401:
        assert (answer.headers["content-type"], answer.headers["www-authenticate"]) == (PROBLEM, "Bearer")
        assert "s3cret" not in answer.text
