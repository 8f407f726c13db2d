"""schemathesis against a live API: what the OpenAPI document promises, and requests that break it.

It is a program here, and not a library: as a library it brings a plugin that every start of pytest would import for a second.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import programs
import pytest

from control_api import API, running
from notnow.control import events

KEPT = ("mx", "disk", "web")
MOST = 8  # servers that it may have started at a time
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = [400, 404, 405, 408, 409, 413, 415, 422, 503]
[checks.positive_data_acceptance]  # what a schema cannot say: names of servers and scenarios, protocols, TOML
expected-statuses = ["2xx", 404, 408, 409, 413, 422, 503]
[[operations]]
include-operation-id = "wait_for"
parameters = { "query.timeout" = "1ms" }
"""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[API]:
    whole = events._events

    async def beginning(*args: Any) -> AsyncGenerator[str]:
        """A stream that ends: the program reads each to its end."""
        async with aclosing(whole(*args)) as pieces:
            yield await anext(pieces)

    monkeypatch.setattr(events, "_events", beginning)
    with running(seed=7) as api:
        for name, scenario in zip(KEPT, ("smtp/overload", "ftp/healthy", "http/overload"), strict=True):
            api.start(scenario, name=name)
        with janitor(api):
            yield api


@contextmanager
def janitor(api: API) -> Iterator[None]:
    """Stop the oldest of the servers that were started, so that they do not pile up."""
    over = threading.Event()

    def sweep() -> None:
        while not over.wait(0.05):
            started = [m.fake.name for m in api.fleet.members() if m.fake.name not in KEPT]
            for name in started[:-MOST]:
                api.http.delete(f"/v1/servers/{name}")

    thread = threading.Thread(target=sweep)
    thread.start()
    yield
    over.set()
    thread.join(20)


def test_every_answer_is_one_that_the_document_promises(
    api: API, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    programs.need("schemathesis", "schemathesis")
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = ["schemathesis", "run", f"{api.url}/v1/openapi.json", "--seed=421", "--max-examples=6", "--warnings=off"]
    command += ["--suppress-health-check=all", "--continue-on-failure", "--no-shrink"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    report = "\n".join(line[:300] for line in ended.stdout.splitlines())
    assert ended.returncode == 0, report + ended.stderr
    assert "25 selected / 25 total" in report
    assert capfd.readouterr().err == ""  # of the server
    print(report[report.index("Coverage (in") :])
