"""The control API over a real socket, against real fakes: each call, and what bad input gets."""

from __future__ import annotations

import smtplib
import threading
import time
from collections.abc import Iterator
from ftplib import FTP
from io import BytesIO
from json import loads as loads_json
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from control_api import API, running
from notnow.errors import ScenarioError
from notnow.language.loading import loads
from smtp_client import MESSAGE

ONCE = """
protocol = "smtp"
[params]
word = "busy"
[[phase]]
name = "busy"
until = { connect = 1 }
[[phase.rule]]
on = "connect"
reply = "421 4.3.2 {word}"
[[phase]]
name = "calm"
[expect]
delivered = { times = 1 }
"""


@pytest.fixture(scope="module")
def one_api() -> Iterator[API]:
    with running(seed=7) as api:
        yield api


@pytest.fixture
def api(one_api: API) -> Iterator[API]:
    yield one_api
    one_api.clear()


def send(server: dict[str, Any]) -> int:
    """Send a mail; the code of the greeting or of the last reply."""
    try:
        with smtplib.SMTP(server["host"], server["port"], timeout=20) as smtp:
            smtp.sendmail("a@client.test", ["b@server.test"], MESSAGE)
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    return 250


# ---- servers -------------------------------------------------------------------------------------


def test_a_server_a_test(api: API) -> None:
    server = api.start("smtp/overload", knobs={"like": "gmail", "outage": "1h"}, name="mx", speed=0)
    assert server["url"] == f"smtp://127.0.0.1:{server['port']}"
    assert (server["phase"], server["knobs"]["like"], server["ca_pem"], server["seed"]) == (
        "overloaded",
        "gmail",
        None,
        7,
    )
    assert send(server) == 421
    assert api.post("/v1/clock/advance", by="1h") == {"now": {"mx": 3600}}
    assert send(server) == 250
    assert api.get("/v1/servers/mx")["phase"] != "overloaded"
    assert api.http.delete("/v1/servers/mx").status_code == 204
    assert api.get("/v1/servers") == {"servers": []}
    with pytest.raises(OSError):
        send(server)


def test_without_a_scenario_it_is_healthy(api: API) -> None:
    assert send(api.start()) == 250


def test_tls_comes_with_its_ca(api: API) -> None:
    assert api.start("http/healthy")["ca_pem"].startswith("-----BEGIN CERTIFICATE-----")


def test_a_scenario_as_text(api: API) -> None:
    server = api.start(toml=ONCE, knobs={"word": "not now"})
    with pytest.raises(smtplib.SMTPConnectError, match="not now"):
        smtplib.SMTP(server["host"], server["port"])
    assert send(server) == 250


def test_another_scenario_plays_and_the_one_before_comes_back(api: API) -> None:
    server = api.start(name="mx")
    played = api.put("/v1/servers/mx/scenario", scenario="smtp/overload", ttl="1s")
    assert (played["scenario"], 0 < played["returns_in"] <= 1) == ("smtp/overload", True)
    assert api.get("/v1/servers/mx/wait", connect=0, timeout=1)["phase"]
    until(lambda: api.get("/v1/servers/mx")["scenario"] == "smtp/healthy")
    assert send(server) == 250


def test_a_server_ends_when_its_time_is_over(api: API) -> None:
    api.start(ttl=0.1)
    until(lambda: api.get("/v1/servers")["servers"] == [])


def until(holds: Any) -> None:
    """Ask again until it holds: the API itself does it, in real time."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it does not come"


def test_next_phase_kick_and_reset(api: API) -> None:
    server = api.start("smtp/overload", name="mx")
    assert send(server) == 421
    assert api.post("/v1/servers/mx/next-phase")["phase"] == "recovered"
    with smtplib.SMTP(server["host"], server["port"]) as smtp:
        assert api.post("/v1/servers/mx/kick") == {"kicked": 1}
        assert smtp.noop()[0] == 421
    assert api.get("/v1/servers/mx")["exchanges"] > 0
    assert api.post("/v1/servers/mx/reset")["exchanges"] == 0


def test_parallel_tests_do_not_meet(api: API) -> None:
    def one_test(number: int) -> None:
        try:
            server = api.start("smtp/overload", name=f"test-{number}", speed=0)
            told = [send(server)]
            api.post("/v1/clock/advance", by="1h", servers=[server["name"]])
            told.append(send(server))
            found[number] = (told, api.get("/v1/verdict", server=server["name"])["storm"]["tries"])
        except Exception as error:
            found[number] = error

    found: dict[int, Any] = {}
    threads = [threading.Thread(target=one_test, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == {n: ([421, 250], found[0][1]) for n in range(8)}


# ---- what happened -------------------------------------------------------------------------------


def test_the_journal_page_by_page(api: API) -> None:
    server = api.start(name="mx")
    for _ in range(3):
        send(server)
    api.fleet.get("mx").fake.wait_for(lambda journal: all(one.closed_at is not None for one in journal.connections))
    whole = api.get("/v1/servers/mx/journal", limit=1000)
    assert whole["next"] is None
    pages, after = [], 0
    while after is not None:
        page = api.get("/v1/servers/mx/journal", limit=7, after=after)
        pages += page["entries"]
        after = page["next"]
    assert pages == whole["entries"]
    assert [e["event"] for e in pages].count("closed") == 3
    assert api.get("/v1/servers/mx/journal", limit=2, last=True)["entries"] == whole["entries"][-2:]
    assert api.http.get("/v1/servers/mx/journal.jsonl").text.count("\n") == len(pages)


@pytest.mark.parametrize(
    ("query", "moments"),
    [
        ({"moment": "mail"}, {"mail"}),
        ({"moment": "mail,rcpt"}, {"mail", "rcpt"}),
        ({"moment": ["mail", "rcpt"]}, {"mail", "rcpt"}),
        ({"code": 354}, {"data"}),
        ({"refused": True}, {"connect"}),
        ({"rule": "phase[0].rule[0]"}, {"connect"}),
        ({"connection": 1}, {"connect"}),
        ({"event": "phase"}, {None}),
    ],
)
def test_the_journal_filtered(api: API, query: dict[str, Any], moments: set[str | None]) -> None:
    server = api.start(toml=ONCE, name="mx")
    assert [send(server), send(server)] == [421, 250]
    assert {e.get("moment") for e in api.get("/v1/servers/mx/journal", **query)["entries"]} == moments


def test_why_a_rule_fired_and_how_often_it_did(api: API) -> None:
    server = api.start(toml=ONCE, name="mx")
    send(server), send(server)
    connects = api.get("/v1/servers/mx/journal", moment="connect")["entries"]
    why = api.get(f"/v1/servers/mx/exchanges/{connects[0]['index']}/why")
    assert why == {"rules": [{"rule": "phase[0].rule[0]", "fired": True, "why": "all its conditions hold"}]}
    assert api.get(f"/v1/servers/mx/exchanges/{connects[1]['index']}/why") == {"rules": []}
    (rule,) = api.get("/v1/servers/mx/rules")["rules"]
    assert (rule["rule"], rule["phase"], rule["fired"], rule["lines"]) == (
        "phase[0].rule[0]",
        "busy",
        1,
        ["421 4.3.2 busy"],
    )


def test_messages(api: API) -> None:
    server = api.start(name="mx")
    send(server), send(server)
    (first,) = api.get("/v1/servers/mx/messages", limit=1)["messages"]
    assert (first["sender"], first["recipients"], first["subject"]) == ("a@client.test", ["b@server.test"], "hello")
    assert first["content"].encode() == MESSAGE
    assert api.get("/v1/servers/mx/messages", limit=1)["next"] == 1
    assert api.get("/v1/servers/mx/messages", after=1)["next"] is None


def test_files(api: API) -> None:
    server = api.start("ftp/healthy", name="disk", files={"in/a.txt": "hello", "big.bin": "2MB"})
    with FTP() as ftp:
        ftp.connect(server["host"], server["port"])
        ftp.login()
        ftp.storbinary("STOR out.bin", BytesIO(b"\x00\xff"))
    sizes = {file["path"]: file["size"] for file in api.get("/v1/servers/disk/files")["files"]}
    assert sizes == {"big.bin": 2_000_000, "in/a.txt": 5, "out.bin": 2}
    assert api.http.get("/v1/servers/disk/files/out.bin").content == b"\x00\xff"
    assert api.http.get("/v1/servers/disk/files/in/a.txt").content == b"hello"


def test_waiting(api: API) -> None:
    server = api.start(toml=ONCE, name="mx")
    clients = threading.Thread(target=lambda: (send(server), send(server)))
    clients.start()
    seen = api.get("/v1/servers/mx/wait", connect=2, mail=1, phase="calm", timeout="20s")
    clients.join(20)
    assert (seen["seen"]["connect"], seen["phase"]) == (2, "calm")
    said = api.refused("GET", "/v1/servers/mx/wait?connect=9&timeout=10ms", 408)
    assert said == "waited 10ms in vain for connect=9 (seen: 2) on mx"


@pytest.mark.parametrize("only", [{}, {"event": "exchange"}, {"event": "closed,play,phase"}, {"code": 250}])
def test_pages_of_a_journal_are_the_whole(api: API, only: dict[str, Any]) -> None:
    server = api.start(toml=ONCE, name="mx")
    assert [send(server), send(server), send(server)] == [421, 250, 250]
    api.fleet.get("mx").fake.settle()
    path = "/v1/servers/mx/journal"
    whole = api.get(path, limit=1000, **only)["entries"]
    assert len(whole) >= 4
    assert [one["index"] for one in whole] == sorted(one["index"] for one in whole)
    for limit in (1, 2, len(whole)):
        told, after = [], 0
        while after is not None:
            page = api.get(path, limit=limit, after=after, **only)
            assert 0 < len(page["entries"]) <= limit
            told += page["entries"]
            after = page["next"]
        assert told == whole
        assert api.get(path, limit=limit, last=True, **only)["entries"] == whole[-limit:]
    lines = api.get(f"{path}.jsonl").splitlines()
    assert only or list(map(loads_json, lines)) == whole


# ---- verdicts ------------------------------------------------------------------------------------


def test_a_verdict_in_every_format(api: API) -> None:
    server = api.start(toml=ONCE, name="mx", speed=0)
    assert send(server) == 421
    lost = api.http.get("/v1/verdict", params={"exit": 0, "count": 1})
    assert (lost.json()["result"], lost.json()["exit"], lost.headers["notnow-exit"]) == ("lost", 1, "1")
    api.post("/v1/clock/advance", by="1h")
    assert send(server) == 250
    found = api.get("/v1/verdict", exit=0, count=1)
    assert (found["result"], found["outcome"], found["others"]) == ("delivered", "well behaved", [])
    text = api.get("/v1/verdict", format="text", exit=0, count=1)
    assert text.splitlines()[0] == found["result_in_words"]
    assert text.splitlines()[-1].startswith("notnow: well behaved")
    assert ET.fromstring(api.get("/v1/verdict", format="junit")).find("testsuite") is not None
    assert "delivered" in api.get("/v1/verdict", format="markdown")
    assert "<!DOCTYPE html>" in api.get("/v1/verdict", format="html")


def test_terms_of_a_verdict(api: API) -> None:
    server = api.start(toml=ONCE, speed=0)
    assert send(server) == 421
    reported = api.get("/v1/verdict", exit=75, count=1, accept="reported")
    assert (reported["result"], reported["exit"]) == ("reported", 0)
    assert api.get("/v1/verdict", exit=75, count=1)["exit"] == 1


def test_servers_that_share_no_clock_are_judged_apart(api: API) -> None:
    good, bad = api.start(toml=ONCE, name="good", speed=0), api.start(toml=ONCE, name="bad", speed=0)
    assert [send(good), send(bad)] == [421, 421]
    api.post("/v1/clock/advance", by="1h", servers=["good"])
    assert send(good) == 250
    both = api.get("/v1/verdict", exit=0, count=1)
    assert (both["servers"][0]["name"], both["exit"]) == ("bad", 1)  # the worst first
    assert [(other["servers"][0]["name"], other["exit"]) for other in both["others"]] == [("good", 0)]
    assert api.get("/v1/verdict", server="good", exit=0, count=1)["exit"] == 0
    assert "These servers share no clock with the ones above" in api.get("/v1/verdict", format="html", exit=0, count=1)


def test_a_group_is_judged_together(api: API) -> None:
    primary = api.start("smtp/overload", name="primary", group="mx", speed=0)
    backup = api.start(name="backup", group="mx")
    assert [send(primary), send(backup)] == [421, 250]
    found = api.get("/v1/verdict", exit=0)
    assert ([s["name"] for s in found["servers"]], found["result"]) == (["primary", "backup"], "delivered")


def test_nobody_to_judge(api: API) -> None:
    assert "start one with POST /v1/servers" in api.refused("GET", "/v1/verdict", 404)
    api.start(name="mx")
    found = api.http.get("/v1/verdict", params={"format": "text"})
    assert "no client has connected" in found.text
    assert found.headers["notnow-exit"] == "3"


# ---- the catalogue -------------------------------------------------------------------------------


def test_the_catalogue(api: API) -> None:
    found = api.get("/v1/scenarios", pattern="smtp/*")["scenarios"]
    assert {one["protocol"] for one in found} == {"smtp"}
    overload = api.get("/v1/scenarios/smtp/overload")
    assert [knob["name"] for knob in overload["knobs"]] == list(overload["params"])
    assert overload["phases"][0]["rules"]
    assert loads(overload["toml"]).protocol == "smtp"


def test_a_scenario_is_checked(api: API) -> None:
    assert api.post("/v1/scenarios/check", toml=ONCE) == {"valid": True, "problems": [], "warnings": []}
    wrong = ONCE.replace('on = "connect"', 'on = "conect"')
    found = api.post("/v1/scenarios/check", toml=wrong)
    with pytest.raises(ScenarioError) as error:
        loads(wrong)
    assert not found["valid"]
    assert [p["text"] for p in found["problems"]] == [str(p) for p in error.value.problems]
    assert (found["problems"][0]["nearest"], found["problems"][0]["line"]) == (
        "connect",
        ONCE[: ONCE.index("on = ")].count("\n") + 1,
    )


# ---- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"scenaro": "smtp/overload"}, "there is no 'scenaro' here; allowed: scenario, toml, knobs,"),
        ({"scenario": "smtp/overlod"}, "did you mean 'smtp/overload'?"),
        ({"scenario": "../../etc/passwd"}, "is a path, and no file is read for a request"),
        ({"scenario": "/etc/passwd.toml"}, "is a path, and no file is read for a request"),
        ({"scenario": "mine.toml"}, "allowed: a name of the catalogue, or the text as `toml`"),
        ({"scenario": "smtp/overload", "toml": ONCE}, "scenario and toml are both given; allowed: one of them"),
        ({"scenario": "smtp/overload", "knobs": {"outag": "1s"}}, "did you mean 'outage'?"),
        ({"scenario": "smtp/overload", "knobs": {"outage": "soon"}}, "knob 'outage' is 'soon'"),
        ({"scenario": "smtp/overload", "knobs": {"search_paths": ["/etc"]}}, "there is no knob 'search_paths'"),
        ({"toml": ONCE.replace('on = "connect"', 'on = "conect"')}, "did you mean 'connect'?"),
        ({"toml": "["}, "not valid TOML"),
        ({"toml": "x" * 1_000_001}, "allowed: 1000000 characters at most"),
        ({"ttl": "soon"}, "ttl: 'soon' is no time; allowed: seconds as a number, or"),
        ({"ttl": -1}, "ttl: -1 is negative"),
        ({"ttl": True}, "ttl: true is no time"),
        ({"speed": -1}, "speed: found -1; allowed: 0 or more"),
        ({"speed": 1e300}, "speed: found 1e+300; allowed: 1000000000 at most"),
        ({"port": 70000}, "port: found 70000; allowed: 65535 at most"),
        ({"host": "0.0.0.0"}, "host: found '0.0.0.0'; allowed: '127.0.0.1', '::1' or 'localhost'"),
        ({"name": "a b"}, "name is 'a b'; allowed: a letter, then letters"),
        ({"files": {"x": "3mb"}, "scenario": "ftp/healthy"}, "files: 'x' is '3mb', which looks like a size"),
        ({"files": {"x": "y"}}, "'files' is no option of smtp servers"),
        ({"tls": "implicit", "scenario": "smtp/overload", "seed": "x"}, "seed: found 'x'; allowed: a whole number"),
        ({"knobs": []}, "knobs: found []; allowed: an object"),
        ({"speed": True}, "speed: found true; allowed: a number"),
        ({"users": {"a": 1}}, "users.a: found 1; allowed: a text"),
        ({"seed": 1.5}, "seed: found 1.5; allowed: a whole number"),
        ({"seed": 2**63}, "seed: found 9223372036854775808; allowed: less than 9223372036854775808"),
        ({"host": None}, "host: found null; allowed: '127.0.0.1', '::1' or 'localhost'"),
        ([], "found []; allowed: an object"),
        ("smtp/overload", "found 'smtp/overload'"),
    ],
)
def test_what_cannot_be_started(api: API, body: Any, said: str) -> None:
    assert said in api.refused("POST", "/v1/servers", 422, json=body)
    assert api.get("/v1/servers") == {"servers": []}


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/v1/servers/nobody", 404, "there is no server 'nobody'"),
        ("GET", "/v1/servers/m", 404, "did you mean 'mx'?"),
        ("DELETE", "/v1/servers/nobody", 404, "there is no server 'nobody'"),
        ("GET", "/v1/servers/mx/journal?limit=0", 422, "limit: "),
        ("GET", "/v1/servers/mx/journal?limits=3", 422, "did you mean 'limit'?"),
        ("GET", "/v1/servers/mx/journal?code=9999", 422, "code: found '9999'; allowed: 599 at most"),
        ("GET", "/v1/servers/mx/journal?moment=conect", 422, "there is no moment of smtp 'conect'; allowed: connect, "),
        ("GET", "/v1/servers/disk/journal?moment=mail", 422, "there is no moment of ftp 'mail'"),
        ("GET", "/v1/servers/mx/journal?event=exchanges", 422, "did you mean 'exchange'?"),
        ("GET", "/v1/servers/mx/wait?connect=1&connect=2", 422, "'connect' is given twice; allowed: once"),
        (
            "GET",
            "/v1/servers/",
            404,
            "there is no '/v1/servers/' here; allowed: the paths in /v1/openapi.json; did you mean '/v1/servers'?",
        ),
        ("POST", "/v1/servers/", 404, "did you mean '/v1/servers'?"),
        ("GET", "/v1/servers/mx/", 404, "did you mean '/v1/servers/mx'?"),
        ("GET", "/v1/servers/mx/exchanges/99999/why", 404, "there is no exchange 99999 in the journal of mx"),
        ("GET", "/v1/servers/mx/exchanges/x/why", 404, "there is no exchange 'x'"),
        ("GET", "/v1/servers/mx/files", 422, "mx speaks smtp and has no files; allowed: a server that keeps files"),
        ("GET", "/v1/servers/mx/files/a", 422, "mx speaks smtp and has no files"),
        ("GET", "/v1/servers/disk/files/none.txt", 404, "there is no file"),
        ("GET", "/v1/servers/disk/messages", 422, "disk speaks ftp and has no messages"),
        ("GET", "/v1/servers/mx/wait", 422, "there is nothing to wait for; allowed: a moment and a number"),
        ("GET", "/v1/servers/mx/wait?conect=3", 422, "did you mean 'connect'?"),
        ("GET", "/v1/servers/mx/wait?connect=many", 422, "connect: found 'many'; allowed: how often"),
        ("GET", "/v1/servers/mx/wait?connect=1&timeout=1d", 422, "timeout: found '1d'; allowed: 10m at most"),
        ("GET", "/v1/servers/mx/wait?phase=nowhen", 422, "there is no phase of smtp/healthy 'nowhen'"),
        ("GET", "/v1/verdict?level=most", 422, "level: found 'most'; allowed: 'must', 'should' or 'advice'"),
        ("GET", "/v1/verdict?format=pdf", 422, "format: found 'pdf'"),
        ("GET", "/v1/verdict?server=nobody", 404, "there is no server 'nobody'"),
        ("GET", "/v1/scenarios/smtp/overlod", 404, "did you mean 'smtp/overload'?"),
        ("GET", "/v1/scenarios/..%2f..%2fetc", 404, "is no name of the catalogue"),
        ("GET", "/v1/servers?x=1", 422, "there is no parameter 'x' here; allowed: none"),
        ("GET", "/v1/nothing", 404, "there is no '/v1/nothing' here; allowed: the paths in /v1/openapi.json"),
        ("PATCH", "/v1/servers", 405, "PATCH is not possible at /v1/servers; allowed: "),
    ],
)
def test_what_is_asked_wrongly(api: API, method: str, path: str, status: int, said: str) -> None:
    api.start(name="mx")
    api.start("ftp/healthy", name="disk")
    assert said in api.refused(method, path, status, headers={"content-type": "application/json"})


def test_a_taken_name_and_a_taken_port(api: API) -> None:
    port = api.start(name="mx")["port"]
    assert "'mx' already" in api.refused("POST", "/v1/servers", 409, json={"name": "mx"})
    assert str(port) in api.refused("POST", "/v1/servers", 409, json={"port": port})


@pytest.mark.parametrize(
    ("content", "kind", "status", "said"),
    [
        (b"{", "application/json", 400, "the body is no JSON"),
        (b"null", "application/json", 422, "found null; allowed: an object"),
        (b"\xff", "application/json", 400, "the body is no JSON"),
        (b"[" * 100_000, "application/json", 400, "the body is nested too deeply"),
        (b"{}", "text/plain", 415, "Content-Type is 'text/plain'; allowed: application/json"),
        (b"{}", "application/x-www-form-urlencoded", 415, "allowed: application/json"),
        (b"{}", "", 415, "Content-Type is ''; allowed: application/json"),
        (b" " * (4 * 1024 * 1024 + 1), "application/json", 413, "the body has 4194305 bytes; allowed: 4194304 at most"),
    ],
)
def test_bodies_that_are_refused(api: API, content: bytes, kind: str, status: int, said: str) -> None:
    assert said in api.refused("POST", "/v1/servers", status, content=content, headers={"content-type": kind})


def test_a_call_that_says_nothing_needs_no_content_type(api: API) -> None:
    """As `curl -X POST` makes it. Browsers send an Origin with it, which has to be ours."""
    assert api.http.post("/v1/servers").json()["scenario"] == "smtp/healthy"
    assert api.http.post("/v1/servers/smtp/reset").status_code == 200
    assert "Content-Type" in api.refused("POST", "/v1/servers", 415, headers={"content-type": "text/plain"})
    assert "Origin" in api.refused("POST", "/v1/servers", 403, headers={"origin": "http://evil.test"})


def test_a_body_without_a_length_is_bounded_too(api: API) -> None:
    pieces = (b" " * 65536 for _ in range(65))
    said = api.refused("POST", "/v1/servers", 413, content=pieces, headers={"content-type": "application/json"})
    assert said == "the body has more than 4194304 bytes"
