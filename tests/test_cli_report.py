"""`notnow report`: the verdict of fakes that run elsewhere, in the words and with the exit codes of `try`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from control_api import API, running
from notnow import FakeHTTP
from notnow.cli import group
from notnow.control.fleet import Fleet
from notnow.control.server import controlled
from notnow.language.catalogue import scenario
from test_control_api import ONCE, send


@pytest.fixture(scope="module")
def one_api() -> Iterator[API]:
    with running(seed=7) as api:
        yield api


@pytest.fixture
def api(one_api: API) -> Iterator[API]:
    yield one_api
    one_api.clear()


def report(*words: str) -> Result:
    return CliRunner().invoke(group, ["report", *words])


def recovered(api: API) -> None:
    server = api.start(toml=ONCE, name="mx", speed=0)
    send(server)
    api.post("/v1/clock/advance", by="1h")
    send(server)


def test_the_verdict_in_the_words_of_try(api: API) -> None:
    recovered(api)
    told = report(api.url, "--exit", "0", "--count", "1")
    assert told.exit_code == 0
    assert told.stdout.splitlines()[0].startswith("delivered: ")
    assert told.stdout.splitlines()[-1].startswith("notnow: well behaved")
    assert "\x1b" not in told.stdout
    assert json.loads(report(api.url, "--json").stdout)["journals"]["mx"]


def test_files_for_ci(api: API, tmp_path: Path) -> None:
    recovered(api)
    junit, html, summary = (tmp_path / name for name in ("r.xml", "r.html", "s.md"))
    summary.write_text("before\n")
    report(api.url, "--junit", str(junit), "--html", str(html), "--summary", str(summary))
    assert ET.parse(junit).getroot().find("testsuite") is not None
    assert "<!DOCTYPE html>" in html.read_text()
    assert summary.read_text().startswith("before\n")
    assert "smtp" in summary.read_text()


def test_servers_that_share_no_clock_have_a_heading_each(api: API, tmp_path: Path) -> None:
    recovered(api)
    api.start("smtp/greylisting", name="idle", speed=0)
    told = report(api.url, "--html", str(tmp_path / "r.html"))
    assert told.exit_code == 3
    heads = [line for line in told.stdout.splitlines() if line.endswith(")") and line[0].isalpha()]
    assert (heads[0], heads[-1]) == ("idle (smtp/greylisting)", "mx (scenario)")
    page = (tmp_path / "r.html").read_text()
    assert "never connected" in page[: page.index("</h1>")]
    assert '<b>mx</b> <span class="outcome good">well behaved</span> in scenario: delivered: ' in page


def test_rules_that_were_not_exercised_are_listed_on_request(api: API) -> None:
    recovered(api)
    assert "rules (-v lists them)" in report(api.url).stdout
    assert "smtp.give-up-time" in report(api.url, "-v").stdout


def test_exit_codes(api: API) -> None:
    assert report(api.url).exit_code == 2  # there is no server
    server = api.start(toml=ONCE, name="mx", speed=0)
    assert report(api.url).exit_code == 3
    send(server)
    assert report(api.url, "--exit", "0", "--count", "1").exit_code == 1
    assert report(api.url, "--exit", "9", "--count", "1", "--accept", "reported").exit_code == 0
    api.start("smtp/greylisting", name="idle", speed=0)
    assert report(api.url, "--server", "idle").exit_code == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["http://127.0.0.1:1"], "is `notnow serve --control` running there?"),
        (["ftp://x"], "is no URL of a control API"),
        (["http://127.0.0.1:70000"], "'http://127.0.0.1:70000' is no URL of a control API"),
        (["{url}", "--server", "mxx"], "did you mean 'mx'?"),
        (["{url}", "--level", "most"], "'most' is not one of"),
        (["{url}", "--junit", "/nowhere/r.xml"], "there is no directory '/nowhere'"),
    ],
)
def test_mistakes(api: API, words: list[str], said: str) -> None:
    api.start(name="mx")
    told = report(*(word.format(url=api.url) for word in words))
    assert (told.exit_code, said in told.stderr) == (2, True), told.stderr


def test_another_server_is_not_taken_for_one(api: API) -> None:
    with FakeHTTP("http/healthy", tls="none") as fake:
        told = report(fake.url)
    assert (told.exit_code, "not as a control API of notnow does" in told.stderr) == (2, True)


def test_a_client_that_has_ended_without_a_connection(api: API) -> None:
    port = api.start(name="mx")["port"]
    told = report(api.url, "--exit", "7")
    assert (told.exit_code, told.stdout) == (
        3,
        f"notnow: the client exited with 7 and never connected to 127.0.0.1:{port}, so there is nothing to judge\n",
    )


def test_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notnow.control.server.is_loopback", lambda _: False)  # as on an address of the network
    with Fleet() as fleet, controlled(fleet, "127.0.0.1", 0) as server:
        fleet.start(scenario("smtp/healthy"))
        for words in ([], ["--token", "wrong"]):
            told = report(server.url, *words)
            assert told.exit_code == 2
            assert "needs the token that `notnow serve` printed: --token TOKEN, NOTNOW_TOKEN" in told.stderr
        monkeypatch.setenv("NOTNOW_TOKEN", str(server.token))
        assert report(server.url).exit_code == 3


def test_on_a_terminal_it_is_coloured(api: API) -> None:
    recovered(api)
    assert "\x1b[" in api.get("/v1/verdict", format="text", terminal=80)
    assert max(map(len, api.get("/v1/verdict", format="text", terminal=40).splitlines())) < 120


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_what_is_in_this_file_system_is_no_address(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir() if kind == "directory" else Path("runs").touch()
    told = report("runs")
    assert told.exit_code == 2
    assert f"'runs' is a {kind}, and journals in files are not judged; allowed: the URL of a control API" in told.stderr
    assert "notnow replay FILE" in told.stderr


def test_what_is_too_long_for_a_path_is_an_address_like_any_other() -> None:
    told = report(f"http://127.0.0.1:1/{'x' * 5000}")
    assert told.exit_code == 2
    assert "there is no control API at http://127.0.0.1:1" in told.stderr
