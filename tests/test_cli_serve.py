"""`notnow serve`, as a process: what it prints, what clients meet, and how it stops."""

from __future__ import annotations

import json
import os
import re
import signal
import smtplib
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner

from cli_process import PATIENCE, Notnow, Terminal
from notnow import FakeSMTP
from notnow.cli import _serving, group
from notnow.cli._serving import Feed
from notnow.journal import Mark

MESSAGE = "Subject: hi\r\nMessage-ID: <1@client.test>\r\n\r\nhello\r\n"
LISTENING = ["event", "name", "scenario", "protocol", "host", "port", "url", "ca_file", "seed"]


def send(server: dict[str, Any]) -> None:
    with smtplib.SMTP(server["host"], server["port"], timeout=PATIENCE) as client:
        client.sendmail("a@client.test", ["b@server.test"], MESSAGE)


def refused(server: dict[str, Any]) -> tuple[int, bytes]:
    with pytest.raises(smtplib.SMTPConnectError) as caught:
        send(server)
    error = caught.value.smtp_error
    return caught.value.smtp_code, error if isinstance(error, bytes) else error.encode()


def rejects(*arguments: str) -> str:
    """What `serve` says as it refuses to start, which must be all that it does."""
    result = CliRunner().invoke(group, ["serve", *arguments], prog_name="notnow")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.stderr


# ---- JSON --------------------------------------------------------------------------------------


def test_serve_says_where_it_listens_then_what_happens_and_stops_on_sigterm() -> None:
    with Notnow("serve", "smtp/overload", "--json", "--set", "outage=1h", "--seed", "7") as notnow:
        server = notnow.event()
        assert list(server) == LISTENING
        assert server | {"port": 0, "url": ""} == {
            "event": "listening", "name": "smtp", "scenario": "smtp/overload", "protocol": "smtp",
            "host": "127.0.0.1", "port": 0, "url": "", "ca_file": None, "seed": 7,
        }  # fmt: skip
        assert server["url"] == f"smtp://127.0.0.1:{server['port']}"
        assert refused(server) == (421, b"4.3.2 All server ports are busy")
        told = notnow.until(event="exchange", moment="connect")
        assert (told["reply"], told["phase"]) == ("421 4.3.2 All server ports are busy", "overloaded")
        assert (told["server"], told["connection"], told["closed"]) == ("smtp", 1, True)
        assert notnow.until(event="closed")["ended_by"] == "fake"
        assert notnow.stop() == (0, "", "")


@pytest.mark.skipif(os.name == "nt", reason="there a process cannot send Ctrl-C to another alone")
def test_ctrl_c_stops_it() -> None:
    with Notnow("serve", "smtp/healthy", "--json") as notnow:
        notnow.event()
        code, _, errors = notnow.stop(signal.SIGINT)
        assert (code, errors) == (0, "")


def test_each_entry_is_one_line_and_in_order() -> None:
    with Notnow("serve", "smtp/healthy", "--json") as notnow:
        server = notnow.event()
        send(server)
        notnow.until(event="closed")
        send(server)
        notnow.until(event="closed")
        code, rest, _ = notnow.stop()
        assert (code, rest) == (0, "")


def test_a_session_in_one_line_an_exchange() -> None:
    with Notnow("serve", "smtp/healthy", "--json") as notnow:
        send(notnow.event())
        found = []
        while not found or found[-1]["event"] != "closed":
            found.append(notnow.event())
        moments = [entry["moment"] for entry in found if entry["event"] == "exchange"]
        assert moments == ["connect", "ehlo", "mail", "rcpt", "data", "message", "quit"]
        indexes = [entry["index"] for entry in found]
        assert indexes == sorted(set(indexes))
        stored = next(entry for entry in found if entry.get("moment") == "message")
        assert stored["facts"]["message_id"] == "<1@client.test>"


def test_a_refusal_within_a_session_says_that_the_fake_closes() -> None:
    with Notnow("serve", "smtp/at-stage", "--set", "stage=mail", "--json") as notnow:
        server = notnow.event()
        with pytest.raises(smtplib.SMTPSenderRefused):
            send(server)
        assert notnow.until(moment="mail")["closed"] is True


def test_the_scenario_plays_in_sped_up_time() -> None:
    with Notnow("serve", "smtp/overload", "--json", "--set", "outage=1h", "--speed", "36000") as notnow:
        server = notnow.event()
        assert refused(server)[0] == 421
        assert notnow.until(event="phase")["text"] == "recovered"
        send(server)


def test_servers_have_names_knobs_and_one_order() -> None:
    arguments = ("primary=smtp/overload", "backup=smtp/overload", "--set", "primary.outage=1h", "--set", "like=gmail")
    with Notnow("serve", *arguments, "--set", "backup.like=rfc", "--json") as notnow:
        primary, backup = notnow.event(), notnow.event()
        assert (primary["name"], backup["name"]) == ("primary", "backup")
        assert refused(primary) == (421, b"4.4.5 Server busy, try again later.")
        assert refused(backup)[1].endswith(b"Service not available, closing transmission channel")
        first, second = notnow.until(moment="connect"), notnow.until(moment="connect")
        assert (first["server"], second["server"]) == ("primary", "backup")
        assert first["index"] < second["index"]


def test_a_server_that_speaks_tls_names_its_ca() -> None:
    with Notnow("serve", "smtp/healthy", "smtp/plain-on-tls-port", "--json") as notnow:
        plain, implicit = notnow.event(), notnow.event()
        assert plain["ca_file"] is None
        assert implicit["url"].startswith("smtps://")
        context = ssl.create_default_context(cafile=implicit["ca_file"])
        with smtplib.SMTP_SSL("localhost", implicit["port"], timeout=PATIENCE, context=context) as client:
            assert client.noop()[0] == 250
        notnow.stop()
        assert not Path(implicit["ca_file"]).exists()


def test_live_sessions_are_told_421_when_it_stops_and_the_journal_says_so() -> None:
    with Notnow("serve", "smtp/healthy", "--json") as notnow:
        server = notnow.event()
        with socket.create_connection((server["host"], server["port"]), timeout=PATIENCE) as client:
            received = client.makefile("rb")
            assert received.readline().startswith(b"220 ")
            notnow.process.send_signal(signal.SIGTERM)
            assert received.readline().startswith(b"421 ")
            assert received.read() == b""
        code, rest, errors = notnow.end()
        assert (code, errors) == (0, "")
        entries = [json.loads(line) for line in rest.splitlines()]
        assert any(entry.get("fault") == "stopped" and entry["reply"].startswith("421 ") for entry in entries)


def test_a_port_of_choice_and_a_port_that_is_taken() -> None:
    with FakeSMTP() as fake, Notnow("serve", "smtp/healthy", "--port", str(fake.port), "--json") as notnow:
        code, out, errors = notnow.end()
    assert (code, out) == (2, "")
    assert errors == (
        f"Error: cannot listen on 127.0.0.1:{fake.port}: the port is taken; choose another, or 0 for any free one\n"
    )


def test_when_one_cannot_listen_none_is_announced() -> None:
    with FakeSMTP() as fake:
        result = rejects("a=smtp/healthy", "b=smtp/healthy", "--port", f"b={fake.port}", "--json")
    assert "the port is taken" in result


def test_a_reader_that_goes_away_stops_it() -> None:
    with Notnow("serve", "smtp/overload", "--json", stdout=subprocess.PIPE) as notnow:
        server = notnow.event()
        notnow.event()  # that the scenario plays
        assert notnow.process.stdout is not None
        notnow.process.stdout.close()
        assert refused(server)[0] == 421
        assert notnow.process.wait(PATIENCE) == 0
        assert notnow.errors() == ""
        notnow.process.stdout = None


# ---- for people --------------------------------------------------------------------------------


def test_in_a_pipe_it_prints_plain_lines() -> None:
    with Notnow("serve", "mx=smtp/overload", "--set", "outage=1h", "--seed", "3", "--speed", "36000") as notnow:
        assert notnow.line().endswith(", seed 3, 36000 times as fast, Ctrl-C stops")
        server = notnow.line()
        assert server.startswith("mx  smtp/overload  smtp://127.0.0.1:")
        port = int(server.rpartition(":")[2])
        assert notnow.line().startswith("    try  ")
        assert refused({"host": "127.0.0.1", "port": port})[0] == 421
        assert re.fullmatch(
            r" +\S+  mx #1    connect from 127\.0\.0\.1 -> 421 4\.3\.2 All server ports are busy, closes"
            r"  \[overloaded: postscreen\]",
            notnow.line(),
        )
        assert notnow.line().endswith("mx       == phase recovered ==")
        send({"host": "127.0.0.1", "port": port})
        lines = []
        while not lines or "the client left" not in lines[-1]:
            lines.append(notnow.line())
        assert any("-> 250 2.0.0 Ok: queued, stored <1@client.test>" in line for line in lines)
        assert notnow.stop() == (0, "stopped\n", "")


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_on_a_terminal_it_is_a_live_view() -> None:
    with Terminal("serve", "smtp/overload", "--set", "outage=1h") as terminal:
        text = terminal.until("0 connections")
        assert "overloaded, 1h from the first connection" in text
        port = int(text.partition("smtp://127.0.0.1:")[2][:5].strip("\x1b[m "))
        assert refused({"host": "127.0.0.1", "port": port})[0] == 421
        text = terminal.until("421 x1")
        assert "\x1b[1;31m421 4.3.2 All server ports are busy" in text
        assert "1 connection" in text
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.rest().rpartition("\x1b[?25h")[1], "the cursor is shown again"
        assert terminal.process.wait(PATIENCE) == 0


HARM = "NOOP \x1b[31mRED\x1b]0;owned\x07 x\x08lie a\rFAKE \x9b2J \u202egnp".encode()
HARMLESS = r"NOOP \x1b[31mRED\x1b]0;owned\x07 x\x08lie a\rFAKE \x9b2J \u202egnp"


def harm(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client, client.makefile("rb") as replies:
        replies.readline()
        client.sendall(HARM + b"\r\n")
        assert replies.readline().startswith(b"250")


def test_what_clients_say_does_nothing_to_who_reads_the_lines() -> None:
    with Notnow("serve", "smtp/healthy") as notnow:
        where = next(line for line in notnow.lines() if "smtp://" in line)
        harm(int(where.rpartition(":")[2]))
        assert HARMLESS in next(line for line in notnow.lines() if "NOOP" in line)


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_what_clients_say_does_nothing_to_a_terminal() -> None:
    with Terminal("serve", "smtp/healthy") as terminal:
        found = re.search(r"smtp://127\.0\.0\.1:(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", terminal.until("0 connections")))
        assert found
        harm(int(found[1]))
        assert HARMLESS in terminal.until(r"\u202egnp")


@pytest.mark.skipif(os.name == "nt", reason="there are no pseudo-terminals")
def test_the_live_view_tells_clients_where_the_hosts_are() -> None:
    with Terminal("serve", "http/coalesced") as terminal:
        assert "--resolve" in terminal.until("0 connections") + terminal.until("--resolve")


# ---- what does not hold ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no scenario: name one"),
        (["smtp/overlaod"], "there is no scenario 'smtp/overlaod'"),
        (["nowhere.toml"], "there is no scenario file 'nowhere.toml'"),
        (["smtp/overload", "--set", "otage=3s"], "there is no knob 'otage'"),
        (["smtp/overload", "--set", "outage=soon"], "knob 'outage' is 'soon'"),
        (["smtp/overload", "--set", "outage"], "--set takes KNOB=VALUE"),
        (["smtp/overload", "--set", "mx.outage=3s"], "there is no server 'mx'"),
        (["smtp/overload", "--port", "70000"], "--port is '70000'"),
        (
            ["smtp/overload", "--speed", "0"],
            "--speed is 0, and nobody could advance the clock; allowed: more, or --control PORT as well",
        ),
        (["smtp/overload", "--seed", "x"], "'x' is not a valid integer"),
        (["smtp/overload", "--host", "192.0.2.1"], "'192.0.2.1' is no address of this machine"),
        (["smtp/overload", "--scenarios", "nowhere"], "Directory 'nowhere' does not exist"),
        (["a=smtp/overload", "a=smtp/healthy"], "two servers are called 'a'"),
    ],
)
def test_a_call_that_does_not_hold_starts_nothing(arguments: list[str], said: str) -> None:
    assert said in rejects(*arguments, "--json")


def test_every_fault_of_a_scenario_is_a_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text('protocol = "smtp"\nsumary = "x"\n[[phase]]\nlats = "3s"\n')
    lines = rejects(str(file)).splitlines()
    assert [line.partition(": ")[2].partition(": ")[0] for line in lines] == [f"{file}:2", f"{file}:4"]


# ---- the feed ----------------------------------------------------------------------------------


def mark(text: str) -> Mark:
    return Mark(1, 0.0, "phase", text)


def test_a_feed_gives_what_has_come_in_order() -> None:
    feed = Feed()
    for text in "abc":
        feed.listen(mark(text))
    assert [entry.as_dict()["text"] for entry in feed.take(0)] == ["a", "b", "c"]
    assert feed.take(0) == []


def test_a_feed_that_is_stopped_gives_what_is_left() -> None:
    feed = Feed()
    feed.listen(mark("a"))
    feed.stop()
    feed.listen(mark("b"))
    assert feed.stopping
    assert [entry.as_dict()["text"] for entry in feed.take(0)] == ["a", "b"]


def test_a_feed_gives_a_batch_at_a_time_and_no_wake_ups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serving, "BATCH", 3)
    feed = Feed()
    for text in "abcde":
        feed.wake()
        feed.listen(mark(text))
    found = list(iter(lambda: [entry.as_dict()["text"] for entry in feed.take(0)], []))
    assert found == [["a"], ["b", "c"], ["d"], ["e"]]  # of three each, wake-ups included


def test_a_feed_without_a_reader_drops_and_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_serving, "MOST_WAITING", 2)
    feed = Feed()
    for text in "abcde":
        feed.listen(mark(text))
    assert [entry.as_dict()["text"] for entry in feed.take(0)] == ["a", "b"]
    assert (feed.take_dropped(), feed.take_dropped()) == (3, 0)


def test_what_was_dropped_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from notnow.cli._views import JSONView, LinesView

    JSONView().show([mark("b")], 3)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first, second["text"]) == ({"event": "dropped", "count": 3}, "b")
    LinesView().show([], 3)
    assert "3 entries came too fast" in capsys.readouterr().out


@pytest.mark.parametrize("chosen", ["asyncio", None])
def test_the_loop_that_the_user_has_chosen_is_left_alone(monkeypatch: pytest.MonkeyPatch, chosen: str | None) -> None:
    monkeypatch.delenv("NOTNOW_LOOP", raising=False)
    if chosen:
        monkeypatch.setenv("NOTNOW_LOOP", chosen)
    with _serving.fast_loop():
        inside = os.environ.get("NOTNOW_LOOP")
    assert os.environ.get("NOTNOW_LOOP") == chosen
    expected = chosen or ("uvloop" if _serving.find_spec("uvloop") else None)
    assert inside == expected


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no poll")
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["lines", "json"])
def test_it_stops_on_the_first_signal_though_nobody_reads(form: list[str], tmp_path: Path) -> None:
    """The pipe is full, and the process in the middle of a line."""
    with Notnow("serve", "http/healthy", "m=smtp/healthy", *form, TMPDIR=str(tmp_path)) as notnow:
        port = None
        while port is None:
            found = re.search(r"smtp://127\.0\.0\.1:(\d+)", notnow.line())
            port = int(found[1]) if found else None
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            for _ in range(20):  # far more than a pipe holds
                client.sendall((b"NOOP " + b"x" * 90 + b"\r\n") * 100)
                answered = 0
                while answered < 100:
                    answered += client.recv(65536).count(b"\n")
        notnow.process.send_signal(signal.SIGTERM)
        assert notnow.process.wait(PATIENCE) == 0
        assert not list(tmp_path.iterdir())


def post(url: str, **body: object) -> dict[str, Any]:
    request = Request(f"{url}/v1/servers", json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=20) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def test_with_the_control_api_servers_come_and_go() -> None:
    """Servers that are started over HTTP are told as those of the command line are."""
    with Notnow("serve", "mx=smtp/overload", "--control", "0", "--json") as told:
        control = told.event()
        assert (control["event"], control["token"]) == ("control", None)
        assert told.event()["name"] == "mx"
        started = post(control["url"], scenario="ftp/healthy", name="disk")
        assert told.until(event="listening", name="disk")["port"] == started["port"]
        with socket.create_connection(("127.0.0.1", started["port"])):
            assert told.until(event="exchange", server="disk")["connection"] == 1
        assert told.stop()[0] == 0


def test_the_control_api_needs_no_server_and_names_its_page() -> None:
    with Notnow("serve", "--control", "0") as told:
        assert told.line().endswith("Ctrl-C stops")
        word, url = told.line().split()
        assert word == "control"
        post(url, name="mx")
        assert told.line().startswith("mx  smtp/healthy  smtp://127.0.0.1:")
        assert told.stop()[0] == 0


@pytest.mark.parametrize("where", ["x", "70000", "127.0.0.1:x", "-1", ""])
def test_where_no_control_api_can_be(where: str) -> None:
    assert "allowed: PORT or HOST:PORT" in rejects("--control", where)
