"""The control API for tests: one for a module, and a client of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from notnow.control.fleet import Fleet
from notnow.control.server import controlled

PROBLEM = "application/problem+json"


class API:
    """A client. Methods return what the API answers, and fail the test if it refuses."""

    def __init__(self, url: str, fleet: Fleet, **headers: str) -> None:
        self.url, self.fleet = url, fleet
        self.http = httpx.Client(base_url=url, timeout=20, headers=headers, trust_env=False)

    def get(self, path: str, **query: Any) -> Any:
        return self._good(self.http.get(path, params=query))

    def post(self, path: str, **body: Any) -> Any:
        return self._good(self.http.post(path, json=body))

    def put(self, path: str, **body: Any) -> Any:
        return self._good(self.http.put(path, json=body))

    def start(self, scenario: str | None = None, **more: Any) -> Any:
        """Start a server; the answer."""
        return self.post("/v1/servers", **({"scenario": scenario} if scenario else {}), **more)

    def refused(self, method: str, path: str, status: int, **options: Any) -> str:
        """The sentence with which the API refuses a call, after a look at the rest of the problem."""
        answer = self.http.request(method, path, **options)
        assert (answer.status_code, answer.headers["content-type"]) == (status, PROBLEM), answer.text
        details = answer.json()
        assert (details["status"], details["type"]) == (status, "about:blank")
        assert details["title"]
        found: str = details["detail"]
        return found

    def _good(self, answer: httpx.Response) -> Any:
        assert answer.is_success, answer.text
        return answer.json() if answer.headers["content-type"] == "application/json" else answer.text

    def clear(self) -> None:
        """Stop every server."""
        for member in self.fleet.members():
            self.fleet.stop(member.fake.name)


@contextmanager
def running(**options: Any) -> Iterator[API]:
    with Fleet(**options) as fleet, controlled(fleet, "127.0.0.1", 0) as server:
        api = API(server.url, fleet)
        try:
            yield api
        finally:
            api.http.close()
