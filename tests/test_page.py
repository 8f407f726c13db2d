"""The page of the control API in Chromium, with real clients: what a person sees, does by keyboard, and takes away."""

from __future__ import annotations

import json
import os
import re
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
import pytest

from control_api import API, running
from notnow.terminal import safe

playwright = pytest.importorskip("playwright.sync_api")
Page, expect = playwright.Page, playwright.expect

DEADLINE = 30_000  # milliseconds for the page to show something
MESSAGE = b"Message-ID: <1@x.test>\r\nSubject: hello\r\n\r\nhello\r\n"
PATIENT = """
import smtplib, sys, time
for _ in range(40):
    try:
        with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=10) as client:
            client.sendmail("a@x.test", ["b@x.test"], "Message-ID: <1@x.test>\\r\\n\\r\\nhello")
            break
    except smtplib.SMTPConnectError:
        time.sleep(1.2)  # sooner than a second would be at once
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    programs.need("chromium", "chromium")
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def axe() -> str:
    programs.need_module("axe-core")
    places = [Path(place, "axe-core", "axe.min.js") for place in programs.NODE_PATH.split(os.pathsep) if place]
    return next(place for place in places if place.exists()).read_text("utf-8")


@pytest.fixture
def api() -> Iterator[API]:
    with running() as found:
        yield found


@pytest.fixture
def page(browser: Any) -> Iterator[Page]:
    """A page that reports every error of its script and of its policy."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    context.set_default_timeout(DEADLINE)
    expect.set_options(timeout=DEADLINE)
    made, errors = context.new_page(), list[str]()
    made.on("pageerror", lambda error: errors.append(str(error)))
    made.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield made
    context.close()
    assert [error for error in errors if not error.startswith("Failed to load resource")] == []  # refusals are shown


def attempt(server: dict[str, Any], message: bytes = MESSAGE) -> int:
    """A client tries to send a message: the code that it is told."""
    try:
        with smtplib.SMTP(server["host"], server["port"], timeout=10) as client:
            client.sendmail("a@x.test", ["b@x.test"], message)
            return 250
    except smtplib.SMTPResponseException as error:
        return int(error.smtp_code)


def opened(page: Page, api: API, query: str = "") -> Page:
    page.goto(f"{api.url}/{query}")
    expect(page.locator("#state-words")).to_have_text("live")
    return page


def violations(page: Page, axe: str) -> list[str]:
    """What axe-core finds wrong with the page as it is."""
    page.evaluate(axe)
    found = page.evaluate("axe.run()")["violations"]
    return [f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]}" for one in found]


def copied(page: Page, press: str) -> str:
    """What a button "Copy as" puts on the clipboard."""
    page.get_by_role("button", name=press, exact=True).click()
    page.locator("#copy-go").click()
    expect(page.locator("#copy-go")).to_have_text("Copied")
    text: str = page.evaluate("navigator.clipboard.readText()")
    page.locator("#copy [data-close]").click()
    return text


# ---- the whole story -----------------------------------------------------------------------------


def test_play_see_a_421_advance_see_it_recover_read_the_verdict_and_copy_it(
    page: Page, api: API, tmp_path: Path
) -> None:
    server = api.start("smtp/healthy", name="mail", speed=0)
    opened(page, api)
    expect(page.locator("#empty")).to_contain_text(f"Point your client at {server['url']}")
    page.get_by_role("button", name="Copy the command for mail").click()
    assert page.evaluate("navigator.clipboard.readText()") == server["try_line"]

    page.get_by_role("button", name="Play a scenario on mail").click()
    page.locator("#search").fill("overload answers every")
    page.locator("#found").get_by_role("button", name="smtp/overload").click()
    page.locator("#knob-outage").fill("1s")
    page.locator("#play-go").click()
    expect(page.locator(".server")).to_contain_text("phase overloaded")

    assert attempt(server) == 421
    expect(page.locator("#lanes .mark.busy")).to_have_count(1)
    expect(page.locator("#lanes .mark.busy")).to_have_attribute(
        "aria-label", "#1, 0s: connect: 421 4.3.2 All server ports are busy"
    )
    expect(page.locator("#lanes .told")).to_have_text("421")
    expect(page.locator(".rules")).to_contain_text("fired once")
    broken = page.locator("#verdict article", has_text="smtp.tries-again")
    expect(broken).to_contain_text("broken")
    broken.locator(".evidence button").first.click()  # it leads into the timeline, and to the transcript
    expect(page.locator("#talk")).to_contain_text("421 4.3.2 All server ports are busy")
    expect(page.locator("#talk")).to_contain_text("phase[0].rule[0] fired: all its conditions hold")
    test = copied(page, "Copy smtp.tries-again as pytest test")
    script = copied(page, "Copy smtp.tries-again as curl script")
    scenario = copied(page, "Copy smtp.tries-again as scenario")

    page.locator("#by").fill("2m")
    page.get_by_role("button", name="Advance", exact=True).click()
    expect(page.locator(".server")).to_contain_text("phase recovered")
    assert attempt(server) == 250
    expect(page.locator("#lanes .mark.done")).to_have_count(1)
    expect(page.locator("#lanes .wait title")).to_have_text("waits 2m")
    expect(page.locator("#outcome")).to_have_text("well behaved")
    expect(page.locator("#items button")).to_contain_text("<1@x.test> to b@x.test")
    page.locator("#items button").click()
    expect(page.locator("#lanes .thread circle")).to_have_count(2)

    assert 'outage = "1s"' in scenario
    _run(test, script, tmp_path)


def _run(test: str, script: str, folder: Path) -> None:
    """The copied test fails for a client that gives up, and passes for one that does not; so does the script."""
    (folder / "test_copied.py").write_text(test, "utf-8")
    (folder / "copied.sh").write_text(script, "utf-8")
    (folder / "patient.py").write_text(PATIENT, "utf-8")
    patient = f"{sys.executable} {folder / 'patient.py'}"
    hasty = f"{sys.executable} -c \"import smtplib; smtplib.SMTP('{{host}}', {{port}})\""
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}", "test_copied.py"]
    runs = [
        _started(pytest_, folder, hasty),
        _started(pytest_, folder, f"{patient} {{host}} {{port}}"),
        _started(["sh", "copied.sh"], folder, f"{patient} $host $port"),
    ]
    printed = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [1, 0, 0], printed
    assert ["broken: smtp.tries-again" in text for text in printed] == [True, False, False]
    assert "notnow: well behaved" in printed[2]


def _started(command: list[str], folder: Path, client: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "CLIENT": client, "COUNT": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


# ---- for everyone ----------------------------------------------------------------------------------


def test_axe_finds_no_violation(page: Page, api: API, axe: str) -> None:
    opened(page, api)
    assert violations(page, axe) == []  # without a server
    server = api.start("smtp/overload", name="mail", speed=0)
    expect(page.locator(".server")).to_have_count(1)
    assert violations(page, axe) == []  # without a client
    _recovered(page, api, server)
    page.locator("#as-table summary").click()
    for one in page.locator("#verdict summary").all():
        one.click()
    page.locator("#lanes .mark").first.click()
    expect(page.locator("#talk h4")).to_have_text("Why")
    assert violations(page, axe) == []
    page.get_by_role("button", name="Play a scenario on mail").click()
    page.locator("#found button").first.click()
    expect(page.locator("#chosen h3")).to_be_visible()
    assert violations(page, axe) == []
    page.keyboard.press("Escape")
    page.locator("#copies").get_by_role("button", name="curl script").click()
    expect(page.locator("#copy-text")).to_contain_text("#!/bin/sh")
    assert violations(page, axe) == []


def test_axe_finds_no_violation_on_a_phone_at_night(page: Page, api: API, axe: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    server = api.start("smtp/overload", name="mail", speed=0)
    opened(page, api)
    _recovered(page, api, server)
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.goto(f"{api.url}/v1/verdict?format=html")
    assert violations(page, axe) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def _recovered(page: Page, api: API, server: dict[str, Any]) -> None:
    attempt(server)
    api.post("/v1/clock/advance", by="1m")
    attempt(server)
    expect(page.locator("#lanes .mark.done")).to_have_count(1)


def test_by_keyboard(page: Page, api: API) -> None:
    server = api.start("smtp/overload", name="mail", speed=0)
    for _ in range(3):
        attempt(server)
        api.post("/v1/clock/advance", by="10s")
    opened(page, api)
    expect(page.locator("#lanes .mark[tabindex]")).to_have_count(3)
    page.locator("#lanes .mark").first.focus()
    labels = []
    for key in ("ArrowDown", "ArrowRight", "ArrowLeft", "End", "Home"):
        page.keyboard.press(key)
        labels.append(page.evaluate("document.activeElement.getAttribute('aria-label')").partition(",")[0])
    assert labels == ["#2", "#3", "#2", "#3", "#1"]
    page.keyboard.press("Enter")
    expect(page.locator("#talk-title")).to_be_focused()
    expect(page.locator("#talk-title")).to_have_text("mail #1")
    assert page.locator("#lanes [tabindex='0'].mark").count() == 1  # one stop for the Tab key
    page.locator("#as-table summary").press("Enter")
    page.get_by_role("button", name="Transcript of #2").press("Enter")
    expect(page.locator("#talk-title")).to_have_text("mail #2")


def test_screen_readers_are_told_now_and_then(page: Page, api: API) -> None:
    server = api.start("smtp/overload", name="mail", speed=0)
    opened(page, api)
    attempt(server)
    attempt(server)
    expect(page.locator("#live")).to_have_text("2 new connections, 421 twice")
    page.get_by_role("button", name="Next phase: mail").click()
    expect(page.locator("#live")).to_have_text("mail is in phase recovered")


# ---- what a client may say -------------------------------------------------------------------------


HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202eevil שלום"


def test_what_a_client_says_is_text(page: Page, api: API) -> None:
    server = api.start("smtp/overload", name="mail", speed=0)
    api.post("/v1/servers/mail/next-phase")
    opened(page, api)
    page.on("dialog", lambda dialog: pytest.fail(dialog.message))
    with socket.create_connection((server["host"], server["port"]), timeout=10) as client:
        words = ("EHLO x", "MAIL FROM:<a@x.test>", f"RCPT TO:<{HOSTILE}>", f"NOOP {HOSTILE}", "XYZZY", "QUIT")
        client.sendall("".join(f"{word}\r\n" for word in words).encode())
        while client.recv(4096):
            pass
    expect(page.locator("#lanes .mark").first).to_be_visible()
    page.locator("#lanes .names button").first.click()
    expect(page.locator("#talk")).to_contain_text(r"<img src=x onerror=alert(1)>\x1b[31m\u202eevil שלום")
    assert page.locator("main img").count() == 0
    assert page.locator("#talk bdi").count() > 5
    page.reload()
    expect(page.locator("#state-words")).to_have_text("live")
    assert page.locator("main img").count() == 0
    assert not [char for char in page.locator("body").inner_text() if char in "\x1b\u202e"]


NASTY = (
    "\x1b]0;owned\x07",
    "\x9b2J",
    "\u202egnp.exe\u2066",
    "a\u2028b\u2029c",
    "\u200b\u200f\ufeff",
    "\x0bup\x0c",
    "\x7f",
    "\U000e0041",
    "\u3000x",
)


def test_the_script_shows_a_character_as_python_does(page: Page, api: API) -> None:
    server = api.start("smtp/healthy", name="mail", speed=0)
    with socket.create_connection((server["host"], server["port"]), timeout=10) as client:
        client.sendall("".join(f"NOOP <{word}>\r\n" for word in NASTY).encode() + b"QUIT\r\n")
        while client.recv(4096):
            pass
    opened(page, api)
    page.locator("#lanes .names button").first.click()
    expect(page.locator("#talk tr.c")).to_have_count(len(NASTY) + 1)
    shown = [text.removeprefix("NOOP ") for text in page.locator("#talk tr.c td:last-child").all_text_contents()]
    assert shown[:-1] == [safe(f"<{word}>") for word in NASTY]


def test_names_and_knobs_are_text(page: Page, api: API) -> None:
    scenario = """summary = "<b>x</b>"\nprotocol = "smtp"\n[params]\nword = "<i>y</i>"\n[[phase]]\nname = "<u>z</u>"
[[phase.rule]]\non = "noop"\nreply = "450 <s>{word}</s>"\n"""
    api.start(toml=scenario, name="mail")
    opened(page, api)
    expect(page.locator(".server")).to_contain_text("<u>z</u>")
    expect(page.locator(".server")).to_contain_text("450 <s><i>y</i></s>")
    assert page.locator(".server :is(i, s, u)").count() == 0


def test_the_first_paint_needs_no_script(api: API) -> None:
    assert "No server runs" in api.get("/")
    server = api.start("smtp/overload", name="mail", speed=0)
    assert f"Point your client at <code>{server['url']}</code>" in api.get("/")
    attempt(server)
    text = api.get("/")
    assert 'aria-label="#1, 0s: connect: 421 4.3.2 All server ports are busy"' in text
    assert '<span class="outcome bad">not well behaved</span>' in text
    assert "smtp.tries-again" in text
    assert "there is no group 'male'; allowed: mail; did you mean 'mail'?" in api.refused("GET", "/?group=male", 404)


def test_the_page_runs_only_what_it_brings(api: API) -> None:
    answer = api.http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'" in policy
    assert not re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", answer.text)
    assets = set(re.findall(r'(?:src|href)="(/assets/[^"]*)"', answer.text))
    assert {name.rpartition(".")[2] for name in assets} == {"css", "js"}
    for name in assets:
        assert api.http.get(name).headers["content-type"].startswith(("text/css", "text/javascript"))
    assert not [word for name in assets for word in ("http://", "https://") if word in _without_svg(api.get(name))]
    api.refused("GET", "/assets/report.html", 404)


def _without_svg(text: str) -> str:
    return text.replace("http://www.w3.org/2000/svg", "")


def test_each_group_has_its_page(page: Page, api: API) -> None:
    api.start("smtp/overload", name="one")
    api.start("ftp/overload", name="two")
    opened(page, api)
    expect(page.locator(".server h3")).to_contain_text("one")
    page.locator("#group").select_option("two")
    expect(page.locator(".server h3")).to_contain_text("two")
    assert page.url.endswith("/?group=two")


# ---- actions ---------------------------------------------------------------------------------------


def test_each_action_is_carried_out_and_said(page: Page, api: API) -> None:
    server = api.start("smtp/overload", name="mail", speed=0)
    opened(page, api)
    live = page.locator("#live")
    attempt(server)
    page.get_by_role("button", name="Next phase: mail").click()
    expect(page.locator(".server .phase-name")).to_have_text("recovered")
    with socket.create_connection((server["host"], server["port"]), timeout=10) as client:
        client.recv(999)
        page.get_by_role("button", name="Kick: mail").click()
        expect(live).to_have_text("1 client cut off")
        assert client.recv(999).startswith(b"421")
    with page.expect_download() as download:
        page.get_by_role("link", name="Journal of mail").click()
    lines = [json.loads(line) for line in download.value.path().read_text("utf-8").splitlines()]
    assert [line["event"] for line in lines][:2] == ["play", "exchange"]
    with page.expect_download() as download:
        page.locator("#copies").get_by_role("link", name="JUnit").click()
    assert "<testsuite" in download.value.path().read_text("utf-8")
    page.get_by_role("button", name="Reset: mail").click()
    expect(live).to_have_text("mail has forgotten the past")
    expect(page.locator("#empty")).to_be_visible()
    page.locator("#by").fill("soon")
    page.get_by_role("button", name="Advance", exact=True).click()
    expect(page.get_by_role("alert").first).to_contain_text("'soon' is no time")
    page.get_by_role("button", name="Stop: mail").click()
    expect(page.locator("#servers")).to_contain_text("No server runs")
    assert api.get("/v1/servers")["servers"] == []


def test_an_empty_page_has_the_command_that_starts_a_server(page: Page, api: API) -> None:
    opened(page, api)
    expect(page.locator("#verdict-part")).to_be_hidden()
    page.get_by_role("button", name="Copy the command that starts a server").click()
    command = page.evaluate("navigator.clipboard.readText()")
    subprocess.run(["sh", "-c", command], check=True, capture_output=True, timeout=60)
    expect(page.locator(".server h3")).to_contain_text("smtp")
    expect(page.locator("#empty")).to_contain_text("No client has connected yet.")


def test_connections_of_servers_with_long_names_are_told_apart(page: Page, api: API) -> None:
    servers = [api.start("smtp/overload", name=f"{'long-' * 8}{n}", group="g", speed=0) for n in (1, 2)]
    for server in (*servers, servers[0]):
        attempt(server)
    opened(page, api)
    expect(page.locator(".names li")).to_have_count(3)
    rows = page.locator(".names li").evaluate_all(  # in one call: the page may be drawn anew between two
        """rows => rows.map(row => [row.querySelector("span:last-child").getBoundingClientRect().right,
                                    row.getBoundingClientRect().right, row.innerText])"""
    )
    for (name, column, text), number in zip(rows, ("#1", "#1", "#2"), strict=True):
        assert name <= column
        assert text.split()[-1] == number


def test_a_server_is_started_from_an_empty_page(page: Page, api: API) -> None:
    opened(page, api)
    page.locator("#new").click()
    page.locator("#search").fill("no such thing")
    expect(page.locator("#found-count")).to_have_text("0 scenarios")
    page.locator("#play summary").click()
    page.locator("#toml").fill("protocol = 'smtp'\nsumary = 'x'")
    page.locator("#play-go").click()
    expect(page.locator("#play-problem")).to_contain_text("did you mean 'summary'?")
    page.locator("#toml").fill("")
    page.locator("#search").fill("ftp/overload")
    page.locator("#found button").first.click()
    expect(page.locator("#chosen h3")).to_be_visible()
    page.locator("#play-go").click()
    expect(page.locator(".server h3")).to_contain_text("ftp")
    expect(page.locator("#empty")).to_contain_text("ftp://127.0.0.1:")


def test_the_report_of_the_api_keeps_its_look(page: Page, api: API) -> None:
    attempt(api.start("smtp/overload", name="mail"))
    page.goto(f"{api.url}/v1/verdict?format=html")
    assert page.locator(".panel").evaluate("(panel) => getComputedStyle(panel).borderRadius") != "0px"
    page.locator(".track .mark").first.click()
    expect(page.locator(":target")).to_contain_text("421 4.3.2 All server ports are busy")


def test_why_a_rule_has_not_fired(page: Page, api: API) -> None:
    api.start("smtp/too-many-connections", name="mail", knobs={"cap": 3})
    server = opened(page, api) and api.get("/v1/servers/mail")
    page.get_by_role("button", name="Why has phase[0].rule[0] of mail not fired?").click()
    expect(page.locator(".rules")).to_contain_text("none of the last exchanges was at its moment")
    assert attempt(server) == 250
    page.get_by_role("button", name="Why has phase[0].rule[0] of mail not fired?").click()
    expect(page.locator(".rules")).to_contain_text("at the last connect: over")


# ---- much, and long ---------------------------------------------------------------------------------


def test_of_many_connections_the_first_and_the_last_are_drawn(page: Page, api: API) -> None:
    server = api.start("smtp/overload", name="mail", speed=0)
    opened(page, api)
    for _ in range(230):
        with socket.create_connection((server["host"], server["port"]), timeout=10) as client:
            client.recv(999)
    expect(page.locator("#left-out")).to_have_text("30 connections between the first and the last 100 are left out.")
    assert page.locator("#lanes .lane").count() == 200
    assert page.locator("#lanes .mark").count() == 200
    expect(page.locator("#lanes .names li").last).to_have_text("#230")


def test_what_the_api_is_too_busy_for_is_asked_again(page: Page, api: API) -> None:
    attempt(api.start("smtp/overload", name="mail", speed=0))
    asked: list[str] = []

    def busy_once(route: Any) -> None:
        asked.append(route.request.url)
        if len(asked) == 1:
            route.fulfill(status=503, json={"detail": "10 calls wait for their turn"})
        else:
            route.continue_()

    page.route("**/v1/verdict?most*", busy_once)
    opened(page, api)
    expect(page.locator("#verdict summary").first).to_contain_text("Held")  # the script draws it
    assert len(asked) > 1


def test_it_connects_again(page: Page) -> None:
    from notnow.control.fleet import Fleet
    from notnow.control.server import controlled

    with Fleet() as fleet:
        with controlled(fleet, "127.0.0.1", 0) as first:
            api = API(first.url, fleet)
            server = api.start("smtp/overload", name="mail", speed=0)
            opened(page, api)
        api.http.close()
        expect(page.locator("#state-words")).to_have_text("connecting again …")
        attempt(server)
        with controlled(fleet, "127.0.0.1", first.port):
            expect(page.locator("#state-words")).to_have_text("live")
            expect(page.locator("#lanes .mark.busy")).to_have_count(1)
