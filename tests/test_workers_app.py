"""`--app` with workers: each imports the app, and it answers behind the rules as it does in one process."""

from __future__ import annotations

import os
import sys
import urllib.error
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_process import Notnow
from http_client import H1, H2
from notnow import FakeError, FakeHTTP, StartError
from notnow.clock import AdjustableClock, Stamps
from notnow.language.loading import loads
from notnow.servers.workers.many import many
from playbook import document, rule
from test_cli_own_servers import fetched

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")

WORKERS = 2
APP = """
import os
from pathlib import Path

FAILS_AT = os.environ.get("FAILS_AT")

def note(words):
    with open(Path(__file__).with_name("met"), "a") as file:
        file.write(f"{words} {os.getpid()}\\n")

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for stage in ("startup", "shutdown"):
            await receive()
            note(stage)
            scope["state"]["stage"] = stage
            outcome = "failed" if FAILS_AT == stage else "complete"
            await send({"type": f"lifespan.{stage}.{outcome}", "message": "of mine"})
        return
    if scope["path"] == "/bad":
        raise ValueError("says the app")
    if scope["path"] == "/exit":
        raise SystemExit(3)
    print("asked", flush=True)
    headers = [(b"x-pid", str(os.getpid()).encode()), (b"x-stage", scope["state"]["stage"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": await body(receive)})

async def body(receive):
    found = b""
    while True:
        message = await receive()
        found += message["body"]
        if not message.get("more_body"):
            return found
"""
REFUSED = rule("request", nth=2, status=421)


@pytest.fixture
def mysite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a module with an app."""
    (tmp_path / "mysite.py").write_text(APP)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("mysite", None)


def crew(*rules: Any, **options: Any) -> Any:
    from mysite import app

    scenario = loads(document(*rules, protocol="http", server={"tls": "none"}))
    clock = AdjustableClock(1.0, Stamps())
    return many("http", WORKERS, app="mysite:app")(scenario, clock=clock, app=app, **options)


def met(mysite: Path) -> list[str]:
    return [line.split()[0] for line in (mysite / "met").read_text().splitlines()]


@pytest.mark.usefixtures("each_loop")
def test_each_worker_has_an_app_of_its_own_with_its_lifespan(mysite: Path) -> None:
    with crew() as fake:
        assert met(mysite) == ["startup"] * WORKERS
        seen: Counter[tuple[str, str]] = Counter()
        while len(seen) < WORKERS:
            with H1(fake) as client:
                answer = client.get("/", body=b"hello")
                assert (answer.status, answer.body) == (200, b"hello")
                seen[answer.headers["x-pid"], answer.headers["x-stage"]] += 1
        assert {stage for _, stage in seen} == {"startup"}
        assert str(os.getpid()) not in {pid for pid, _ in seen}
    assert met(mysite) == ["startup"] * WORKERS + ["shutdown"] * WORKERS


@pytest.mark.parametrize("version", [H1, H2], ids=["h1", "h2"])
def test_rules_come_first_and_the_journal_is_that_of_one_process(mysite: Path, version: Any) -> None:
    from mysite import app

    with crew(REFUSED) as fake, FakeHTTP(fake.scenario, app=app) as one:
        told = []
        for each in (fake, one):
            with version(each) as client:
                assert [client.get(path).status for path in ("/", "/", "/bad")] == [200, 421, 500]
            each.catch_up()
            told.append(
                [(x.request.split("/")[-1], x.codes, x.rule, x.facts.app_error) for x in each.journal if x.request]
            )
        assert told[0] == told[1]
        assert told[0][2][3] == "ValueError: says the app"


def test_an_app_that_does_not_start_is_said_as_by_one_process(mysite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS_AT", "startup")
    fake = crew()
    said = []
    from mysite import app

    for each in (fake, FakeHTTP(app=app)):
        with pytest.raises(StartError) as caught:
            each.start()
        assert not each.running
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "the app has failed to start" in said[0]
    monkeypatch.delenv("FAILS_AT")
    with fake, H1(fake) as client:
        assert client.get().status == 200


def test_an_app_that_fails_to_end(mysite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS_AT", "shutdown")
    with pytest.raises(FakeError, match="of mine"), crew():
        pass


def test_an_ending_that_the_app_raises_is_told_at_the_end(mysite: Path) -> None:
    said = r"code of yours that the mine fake has called has raised SystemExit\(3\)"
    with pytest.raises(FakeError, match=said), crew(name="mine") as fake:
        for path, status in (("/exit", 500), ("/", 200)):
            with H1(fake) as client:
                assert client.get(path).status == status


def test_serve_with_workers_says_what_is_wrong_once_and_shows_what_the_app_prints(mysite: Path) -> None:
    (mysite / "plain.toml").write_text(
        document(rule("request", where={"path": "/no"}, status=503), protocol="http", server={"tls": "none"})
    )
    command = ("serve", "plain.toml", "--workers", "2", "--json", "--app")
    with Notnow(*command, "mysite:ap") as notnow:
        code, out, errors = notnow.end()
        assert (code, out, errors.count("there is no 'ap' in mysite; allowed: a name of mysite, which has")) == (
            2,
            "",
            1,
        )
    with Notnow(*command, "mysite:app", FAILS_AT="startup") as notnow:
        code, out, errors = notnow.end()
        assert (code, out, errors.count("the app has failed to start"), errors.count("\n")) == (2, "", 1, 1)
    for control in ((), ("--control", "0")):
        with Notnow(*command, "mysite:app", *control) as notnow:
            url = notnow.until(event="listening")["url"]
            assert fetched(url + "/yes") == b""
            assert "asked" in iter(notnow.line, "")
            with pytest.raises(urllib.error.HTTPError, match="503"):
                fetched(url + "/no")
            assert notnow.stop()[::2] == (0, "")
