"""A small HTTP client of the control API, which needs nothing but Python: for `notnow report` and `notnow.connect`."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

from notnow import true_time
from notnow.errors import ControlError, NotNowError, Problem, ScenarioError, StartError, WaitTimeoutError

PATIENCE = 60.0  # real seconds for an answer


class Answer(NamedTuple):
    """An answer: its status, its headers by their lower-case names, its body."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls the control API at a URL, with a token where it needs one. Every call has a connection of its own."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """Raises ValueError for what is no URL of a control API."""
        try:
            parts = urlsplit(url if "//" in url else f"//{url}", scheme="http")
            known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # such as a port of 70000
            known = False
        if not known:
            raise ValueError(f"{url!r} is no URL of a control API; allowed: one as `notnow serve --control` prints it")
        self.url, self.token = f"{parts.scheme}://{parts.netloc}", token
        self._parts = parts

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, object] | None = None,
        etag: str = "",
    ) -> Answer:
        """One call. Raises the error that the same call raises on a fake of this process, or ControlError."""
        answer = self._send(method, path, body, etag, query or {})
        deadline = true_time.monotonic() + PATIENCE
        while answer.status == 503 and "retry-after" in answer.headers and true_time.monotonic() < deadline:
            time.sleep(float(answer.headers["retry-after"]))
            answer = self._send(method, path, body, etag, query or {})
        if answer.status >= 400:
            raise _error(answer, f"{method} {self.url}{path}")
        return answer

    def get(self, path: str, **query: object) -> Any:
        """The JSON at a path."""
        return self.call("GET", path, query=query).json()

    def check(self) -> None:
        """Raises ControlError where no control API answers."""
        answer = self.call("GET", "/v1/servers")
        try:
            known = isinstance(answer.json()["servers"], list)
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise ControlError(f"{self.url} answers, and not as a control API of notnow does")

    def _send(self, method: str, path: str, body: object, etag: str, query: Mapping[str, object]) -> Answer:
        kind = http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(str(self._parts.hostname), self._parts.port, timeout=PATIENCE)
        headers = {"content-type": "application/json"} if method != "GET" else {}
        if self.token is not None:
            headers["authorization"] = f"Bearer {self.token}"
        if etag:
            headers["if-none-match"] = etag
        pairs = [(name, value) for name, value in query.items() if value not in (None, (), [])]
        target = quote(path) + (f"?{urlencode(pairs, doseq=True)}" if pairs else "")
        try:
            connection.request(method, target, None if method == "GET" else json.dumps(body or {}), headers)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        except http.client.HTTPException as error:
            raise ControlError(f"{self.url} answers, and not as a control API of notnow does: {_said(error)}") from None
        except OSError as error:
            why = error.strerror or str(error) or type(error).__name__
            raise ControlError(
                f"there is no control API at {self.url}: {why}; is `notnow serve --control` running there?"
            ) from None
        finally:
            connection.close()


def _said(error: http.client.HTTPException) -> str:
    words = str(error).strip().splitlines()
    return repr(words[0][:80]) if words else type(error).__name__


def _error(answer: Answer, call: str) -> NotNowError:
    try:
        told = answer.json()
        detail, problems = str(told["detail"]), told.get("problems", [])
    except (ValueError, KeyError, TypeError):
        return ControlError(f"{call} was answered with {answer.status}, and not by a control API of notnow")
    if answer.status == 401:
        return ControlError(
            f"{call} needs the token that `notnow serve` printed: --token TOKEN, NOTNOW_TOKEN, or in Python connect(url, token)"
        )
    if answer.status == 422 and problems:
        keys = ("found", "allowed", "key", "line", "nearest", "hint")
        return ScenarioError([Problem(**{k: p[k] for k in keys if k in p}) for p in problems])
    if answer.status == 408:
        return WaitTimeoutError(detail)
    if answer.status == 409:
        return StartError(detail)
    return ControlError(detail)
