"""`notnow try`: which client is well behaved, what is said of it, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from cli_process import PATIENCE, Notnow, Terminal
from notnow.cli import _client, cmd_try, group
from notnow.conduct.finding import Finding, broken, held
from notnow.conduct.pictures import text as report_text
from notnow.conduct.pictures.report import EXITS
from notnow.conduct.reading.run import Run
from notnow.conduct.rules import http, smtp
from notnow.conduct.rules.rule import LEVELS, Rule
from smtp_client import one, rules

posix = pytest.mark.skipif(os.name == "nt", reason="a process has no group there")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
OUTAGE = ("smtp/overload", "--set", "outage=1h")

# Sends a message, and sends it again after each wait for as long as it is refused.
SENDER = """
    import smtplib, sys, time
    for wait in [*map(float, sys.argv[3:]), None]:
        try:
            with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=86400) as server:
                server.sendmail("a@client.test", ["b@server.test"], "Message-ID: <1@client.test>\\r\\n\\r\\nhello")
            sys.exit(0)
        except smtplib.SMTPException as error:
            if wait is None:
                sys.exit(f"told {error.smtp_code}")
            time.sleep(wait)
"""
CONNECTS = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2]))).recv(100); "


def python(code: str, *arguments: str) -> list[str]:
    return ["--", sys.executable, "-c", textwrap.dedent(code), *arguments]


def sender(*waits: float, host: str = "{host}", port: str = "{port}") -> list[str]:
    return python(SENDER, host, port, *map(str, waits))


def tried(*words: str) -> Result:
    result = CliRunner().invoke(group, ["try", *words], prog_name="notnow")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def reported(*words: str) -> dict[str, Any]:
    """What `--json` has to say; its `exit` is the exit code."""
    result = tried("--json", *words)
    found: dict[str, Any] = json.loads(result.stdout)
    assert found["exit"] == result.exit_code
    return found


def outcomes(report: dict[str, Any]) -> dict[str, str]:
    return {one["rule"]: one["outcome"] for one in report["verdicts"]}


def rule(id: str, level: Any, judge: Callable[[Run], Finding]) -> Rule:
    return Rule(id, f"The title of {id}.", level, "RFC 0", "So.", "seen", "C: NOOP", judge)


def breaks(run: Run) -> Finding:
    return broken("it did", *run.exchanges[:1])


@pytest.fixture
def of_smtp(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have only these rules for SMTP."""
    return lambda *given: monkeypatch.setattr(smtp, "RULES", given)


# ---- well behaved, or not ----------------------------------------------------------------------


def test_a_careful_client_is_well_behaved() -> None:
    result = tried("smtp/overload", "--set", "outage=90s", "--speed", "600", *sender(0.1, 0.2, 0.4))
    assert result.exit_code == 0
    assert "client exited with 0 after " in result.stdout
    assert "  held    smtp.wait-before-retry (must) " in result.stdout
    assert "  held    expect.delivered (must) It delivers every message exactly once." in result.stdout
    assert "broken" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith("notnow: well behaved: ")


def test_a_client_that_loses_its_mail_is_not_and_the_exchange_proves_it() -> None:
    result = tried(*OUTAGE, *sender())
    assert result.exit_code == 1
    assert "client exited with 1 after " in result.stdout
    lines = [line.strip() for line in result.stdout.splitlines()]
    at = lines.index("broken  expect.delivered (must) It delivers every message exactly once.")
    assert lines[at + 1].startswith("expected every message to be delivered once, but none was delivered: ")
    assert lines[at + 2] == "smtp #1 at 0s: connect -> 421 4.3.2 All server ports are busy"
    assert any(line.startswith("->        0s  #1    x connect: 421") for line in result.stdout.splitlines())
    assert lines[0] == "reported: 1 item, and the client exited with 1"
    assert lines[-1] == "notnow: not well behaved: it broke smtp.tries-again, expect.delivered"


def test_a_client_that_hammers_breaks_a_rule() -> None:
    stage = ("smtp/at-stage", "--set", "stage=rcpt", "--set", "outage=1h")
    report = reported(*stage, "--rule", "smtp.wait-before-retry", *sender(0, 0, 0, 0, 0))
    assert (report["outcome"], report["exit"]) == ("not well behaved", 1)
    assert outcomes(report) == {"smtp.wait-before-retry": "broken"}
    first, second = report["verdicts"][0]["evidence"]
    assert (first["reply"][:3], second["connection"]) == ("421", first["connection"] + 1)


@pytest.mark.parametrize(
    ("options", "exit"),
    [
        (["--level", "must"], 0),
        ([], 1),
        (["--level", "should"], 1),
        (["--level", "advice"], 1),
        (["--rule", "smtp.lax"], 1),
        (["--rule", "smtp.kept"], 0),
    ],
)
def test_a_broken_rule_of_a_laxer_level_is_shown_and_does_not_fail(
    of_smtp: Callable[..., None], options: list[str], exit: int
) -> None:
    of_smtp(rule("smtp.lax", "should", breaks), rule("smtp.kept", "must", lambda _: held("it did")))
    result = tried("smtp/healthy", *options, *sender())
    assert result.exit_code == exit
    assert ("  broken  smtp.lax (should) The title of smtp.lax." in result.stdout) == ("smtp.kept" not in options)
    said = result.stdout.splitlines()[-1]
    if exit:
        assert said == "notnow: not well behaved: it broke smtp.lax"
    elif "must" in options:
        assert said == "notnow: well behaved: 2 rules held; it broke smtp.lax, which --level lets pass"


def test_single_rules_are_judged_whatever_their_level_and_not_what_is_expected(of_smtp: Callable[..., None]) -> None:
    of_smtp(rule("smtp.lax", "advice", breaks), rule("smtp.other", "must", breaks))
    report = reported(*OUTAGE, "--rule", "smtp.la*", *sender())
    assert (report["exit"], outcomes(report)) == (1, {"smtp.lax": "broken"})


def test_what_was_not_exercised_is_counted_and_listed_on_demand() -> None:
    brief, verbose = (tried("smtp/healthy", *more, *sender()).stdout for more in ([], ["-v"]))
    count = sum(1 for line in verbose.splitlines() if line.startswith("  not exercised smtp."))
    assert count > 0
    assert f"  not exercised by this run: {count} rule" in brief
    assert "smtp.wait-before-retry" in verbose
    assert "smtp.wait-before-retry" not in brief


def test_what_nothing_can_judge_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(http, "RULES", ())
    (tmp_path / "plain.toml").write_text('protocol = "http"\n', "utf-8")
    result = tried(str(tmp_path / "plain.toml"), *python(CONNECTS.replace(".recv(100)", ""), "{host}", "{port}"))
    assert result.exit_code == 4
    assert ("  nothing can judge this client: there is no rule of conduct for http yet, and ") in result.stdout
    assert result.stdout.splitlines()[-1].startswith("notnow: nothing was judged: ")


def test_fallback_to_another_server_is_well_behaved(of_smtp: Callable[..., None]) -> None:
    of_smtp()
    servers = ("primary=smtp/overload", "backup=smtp/healthy")
    code = """
        import smtplib, sys
        try:
            smtplib.SMTP("127.0.0.1", int(sys.argv[1]))
        except smtplib.SMTPConnectError:
            with smtplib.SMTP("127.0.0.1", int(sys.argv[2])) as server:
                server.sendmail("a@client.test", ["b@server.test"], "hi")
    """
    report = reported(*servers, *python(code, "{primary.port}", "{backup.port}"))
    assert (report["exit"], outcomes(report)) == (0, {"expect.delivered": "held"})
    assert list(report["journals"]) == ["primary", "backup"]
    again = """
        with smtplib.SMTP("127.0.0.1", int(sys.argv[2])) as server:
            server.sendmail("a@client.test", ["b@server.test"], "hi")
    """
    twice = textwrap.dedent(code) + textwrap.dedent(again)
    report = reported(*servers, *python(twice, "{primary.port}", "{backup.port}"))
    assert (report["exit"], outcomes(report)) == (1, {"expect.delivered": "broken"})


# ---- how clients end ---------------------------------------------------------------------------


def test_a_client_that_never_connects_is_not_well_behaved() -> None:
    result = tried("smtp/healthy", *python(""))
    assert result.exit_code == 3
    (line,) = result.stdout.splitlines()
    assert line.startswith("notnow: the client exited with 0 after ")
    assert " and never connected to 127.0.0.1:" in line


@pytest.mark.parametrize("more", [[], ["--fake-time", "--speed", "2"]], ids=["plain", "fake-time"])
def test_a_client_that_there_is_not(more: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_client, "faketime", lambda _: [sys.executable])
    result = tried("smtp/healthy", *more, "--", "no-such-client", "{port}")
    assert (result.exit_code, result.stdout) == (
        3,
        "notnow: the client could not be run: no-such-client: No such file or directory\n",
    )


@posix
def test_a_client_that_is_no_program(tmp_path: Path) -> None:
    result = tried("smtp/healthy", "--", str(tmp_path))
    assert result.exit_code == 3
    assert f"could not be run: {tmp_path}: Permission denied" in result.stdout


@posix
def test_a_client_that_dies_by_a_signal() -> None:
    report = reported("smtp/healthy", *python(f"{CONNECTS} import os; os.kill(os.getpid(), 11)", "{host}", "{port}"))
    assert (report["outcome"], report["exit"]) == ("died", 3)
    assert (report["client"]["exit"], report["client"]["signal"]) == (None, "SIGSEGV")


def test_a_client_that_crashes_is_judged_by_what_it_did() -> None:
    report = reported("smtp/healthy", *python(f"{CONNECTS} sys.exit(70)", "{host}", "{port}"))
    assert (report["outcome"], report["client"]["exit"]) == ("inconclusive", 70)
    assert (report["result"], report["items"]["asked"]) == ("nothing asked", 0)


def is_gone(pid: int) -> bool:
    """True if there is no such process, or nothing left of it but its entry."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# Starts a child that ignores SIGTERM, writes down the ids of both, and sleeps, as its child does.
HANGS = """
    import os, pathlib, signal, subprocess, sys, time
    child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
    process.stdout.readline()
    pathlib.Path(sys.argv[1]).write_text(f"{os.getpid()} {process.pid}")
    print("hanging", flush=True)
    time.sleep(600)
"""


@posix
def test_a_client_that_hangs_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("notnow.cli._client.GRACE", 0.2)
    result = tried("smtp/healthy", "--timeout", "4s", *python(HANGS, str(tmp_path / "pids")))
    assert result.exit_code == 3
    assert "was still running after 4" in result.stdout
    assert "(--timeout), and was killed; it had never connected" in result.stdout
    assert all(is_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


@posix
def test_ctrl_c_stops_the_client_and_says_what_was_seen(tmp_path: Path) -> None:
    with Notnow("try", "smtp/healthy", *python(HANGS, str(tmp_path / "pids"))) as notnow:
        assert notnow.line() == "hanging"
        code, out, _ = notnow.stop(signal.SIGINT)
        assert code == 130
        assert "notnow: the client was stopped after " in out
    assert all(is_gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


# Leaves a child behind that sends a message once its parent has gone.
DAEMON = '(while kill -0 $$ 2>/dev/null; do :; done; sleep 0.2; exec "$@" >/dev/null 2>&1) &'


@posix
@pytest.mark.parametrize(("wait", "exit"), [("4s", 0), ("0s", 3)])
def test_the_fakes_stay_for_a_client_that_works_on_in_the_background(wait: str, exit: int) -> None:
    result = tried("smtp/healthy", "--wait", wait, "--", "sh", "-c", DAEMON, "sh", *sender()[1:])
    assert result.exit_code == exit, result.output


# ---- what the client is told -------------------------------------------------------------------


def test_placeholders_of_ours_are_filled_in_and_other_braces_stay() -> None:
    words = [
        "{host}:{port}",
        "{url}",
        '{"port": {port}}',
        "{b.host}:{b.port}",
        "{}",
        "{x.port}",
        "{{}}",
        "%{http_code}",
    ]
    show = "import os, sys; [print(x) for x in sys.argv[1:]]; print(os.environ['NOTNOW_URL'])"
    with Notnow("try", "smtp/healthy", "b=ftp/healthy", *python(show, *words)) as notnow:
        address = notnow.line()
        host, _, port = address.partition(":")
        assert (host, int(port) > 0) == ("127.0.0.1", True)
        assert [notnow.line() for _ in range(2)] == [f"smtp://{address}", f'{{"port": {port}}}']
        other = notnow.line()
        assert other.startswith("127.0.0.1:")
        assert other != address
        assert [notnow.line() for _ in range(5)] == ["{}", "{x.port}", "{{}}", "%{http_code}", f"smtp://{address}"]


def test_a_client_may_find_the_server_and_its_ca_in_its_environment() -> None:
    code = """
        import os, smtplib, ssl
        at = os.environ
        context = ssl.create_default_context(cafile=at["NOTNOW_CA_FILE"])
        with smtplib.SMTP_SSL(at["NOTNOW_HOST"], int(at["NOTNOW_PORT"]), context=context) as server:
            server.sendmail("a@client.test", ["b@server.test"], "hi")
    """
    scenario = "smtp/untrusted-certificate"
    assert reported("smtp/plain-on-tls-port", "--rule", "*", *python(code))["client"]["exit"] == 0
    assert (
        reported(scenario, "--rule", "*", *python(code.replace("smtplib.SMTP_SSL", "smtplib.SMTP_SSL")))["client"][
            "exit"
        ]
        == 1
    )


def test_what_the_client_prints_passes_through() -> None:
    code = "import sys; print('to out', flush=True); print('to err', file=sys.stderr)"
    with Notnow("try", "smtp/healthy", *python(code)) as notnow:
        code, out, errors = notnow.end()
    assert (out.splitlines()[0], errors) == ("to out", "to err\n")


def test_with_json_the_report_alone_is_on_standard_output() -> None:
    with Notnow("try", "smtp/healthy", "--json", *python("print('to out')")) as notnow:
        code, out, errors = notnow.end()
    assert (code, json.loads(out)["outcome"]) == (3, "never connected")
    said, summary = errors.splitlines()
    assert said == "to out"
    assert "never connected" in summary


# ---- reports -----------------------------------------------------------------------------------


def test_json_has_all_of_it() -> None:
    report = reported(*OUTAGE, "--seed", "7", "--speed", "2", *sender())
    assert list(report) == [
        "notnow",
        "outcome",
        "exit",
        "result",
        "result_in_words",
        "items",
        "doubts",
        "storm",
        "seed",
        "speed",
        "servers",
        "client",
        "backoff",
        "herds",
        "verdicts",
        "journals",
    ]
    assert (report["seed"], report["speed"], report["servers"][0]["scenario"]) == (7, 2, "smtp/overload")
    assert report["client"]["command"][-2:] == ["127.0.0.1", str(report["servers"][0]["port"])]
    assert 0 < report["client"]["duration"] < PATIENCE
    verdict = next(one for one in report["verdicts"] if one["rule"] == "expect.delivered")
    assert (verdict["level"], verdict["outcome"], verdict["source"]) == ("must", "broken", "[expect] of smtp/overload")
    assert [entry["event"] for entry in report["journals"]["smtp"]] == ["play", "exchange", "closed"]


def test_the_back_off_is_in_each_report(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    waits = ("smtp/overload", "--set", "outage=1h", "--speed", "600")
    result = tried(*waits, "--html", str(file), *sender(0.5, 1, 2, 4))
    lines = result.stdout.splitlines()
    at = lines.index("back-off")
    assert lines[at + 1].startswith("  exponential, base ")
    bars = [line.count("█") for line in lines[at + 2 : at + 6]]
    assert bars == sorted(bars)
    assert 0 < bars[0] < bars[3] == 50
    page = file.read_text("utf-8")
    assert f"<p>{lines[at + 1].strip()}</p>" in page
    widths = [float(width) for width in re.findall(r'<rect rx="3" width="([\d.]+)%"', page)]
    assert widths == sorted(widths)
    assert (len(widths), widths[-1]) == (4, 100)
    assert "back-off" not in tried("smtp/healthy", *sender()).stdout


def test_junit_has_a_case_for_each_rule(tmp_path: Path, of_smtp: Callable[..., None]) -> None:
    of_smtp(
        rule("smtp.kept", "must", lambda _: held()),
        rule("smtp.lax", "advice", breaks),
        rule("smtp.idle", "must", lambda _: Finding("not exercised")),
    )
    file = tmp_path / "report.xml"
    assert tried(*OUTAGE, "--junit", str(file), *sender()).exit_code == 1
    suite = ET.parse(file).getroot().find("testsuite")
    assert suite is not None
    assert {k: suite.get(k) for k in ("name", "tests", "failures", "skipped", "errors")} == {
        "name": "notnow try smtp/overload", "tests": "5", "failures": "1", "skipped": "2", "errors": "0",
    }  # fmt: skip
    cases = {
        case.get("name"): [(r.tag, r.get("message"), r.text or "") for r in case] for case in suite.iter("testcase")
    }
    assert cases["smtp.kept"] == []
    assert cases["result"] == [("system-out", None, "reported: 1 item, and the client exited with 1")]
    assert cases["smtp.idle"] == [("skipped", "not exercised by this run", "")]
    assert cases["smtp.lax"][0][:2] == ("skipped", "broken, but only advice: it did")
    ((tag, message, text),) = cases["expect.delivered"]
    assert (tag, str(message).startswith("expected every message")) == ("failure", True)
    assert "smtp #1 at 0s: connect -> 421 4.3.2 All server ports are busy" in text


def test_junit_says_that_a_client_never_connected(tmp_path: Path) -> None:
    file = tmp_path / "report.xml"
    assert tried("smtp/healthy", "--junit", str(file), *python("")).exit_code == 3
    error = ET.parse(file).getroot().find("testsuite/testcase[@name='result']/error")
    assert error is not None
    assert error.get("type") == "never connected"


def test_reports_hold_whatever_a_client_may_say(tmp_path: Path) -> None:
    code = r"""
        import socket, sys
        with socket.create_connection((sys.argv[1], int(sys.argv[2]))) as sock:
            sock.sendall(b"NOOP \x00\x01\x1b[31m<script>&\x80\xff\r\nEHLO x\r\n")
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(999): pass
    """
    junit, html = tmp_path / "r.xml", tmp_path / "r.html"
    scenario = tmp_path / "odd.toml"
    scenario.write_text(rules(one("ehlo", reply="421 \N{SNOWMAN} <b>no</b> &amp;")).text, "utf-8")
    reports = ("--junit", str(junit), "--html", str(html), "--timeout", "10s")
    result = tried(str(scenario), *reports, *python(code, "{host}", "{port}"))
    assert result.exit_code in (0, 1)
    ET.parse(junit)
    page = html.read_text("utf-8")
    assert "<script" not in page
    assert "\x1b" not in page
    assert "421 \N{SNOWMAN} &lt;b&gt;no&lt;/b&gt; &amp;amp;" in page


def test_html_is_one_file_that_needs_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    result = tried("smtp/overload", "--set", "outage=90s", "--speed", "600", "--html", str(file), *sender(0.1, 0.2))
    assert result.exit_code == 0
    page = file.read_text("utf-8")
    assert page.startswith("<!DOCTYPE html>\n<html")
    assert not [word for word in ("src=", "<link", "<script", "@import", "url(") if word in page]
    links = set(re.findall(r'href="([^"]*)"', page))
    assert links
    assert links <= {f"#{name}" for name in re.findall(r' id="([^"]*)"', page)}  # each goes to a place in this file
    assert page.count('class="mark busy"') >= 2
    assert '<h1><span class="outcome good">well behaved</span> in smtp/overload</h1>' in page
    assert "smtp.wait-before-retry" in page


@posix
def test_on_a_terminal_it_has_colours_and_shows_progress() -> None:
    code = f"{CONNECTS} import time; time.sleep(4)"
    with Terminal("try", *OUTAGE, *python(code, "{host}", "{port}")) as terminal:
        text = terminal.until("| 1 connection | 421 x1")
        assert re.search(r"notnow: \ds: smtp: overloaded, 59m 5\ds left \| 1 connection", text)
        assert "verdicts" not in text
        text = terminal.rest()
        assert terminal.process.wait(PATIENCE) == 1
    assert "\x1b[1;31m421 4.3.2 All server ports are busy" in text
    assert "\x1b[1;31mnotnow: not well behaved: lost: 1 item, and the client exited with 0; it broke" in text


# ---- results, and what is accepted ---------------------------------------------------------------

LOSES = """
    import smtplib, sys
    for n in range(int(sys.argv[3])):
        sender = f"s{n}@client.test"
        try:
            with smtplib.SMTP(sys.argv[1], int(sys.argv[2]), timeout=5) as server:
                server.sendmail(sender, ["b@server.test"], f"Message-ID: <{n}@client.test>\\r\\n\\r\\nhi")
        except smtplib.SMTPException:
            pass
"""
TELLS = LOSES.replace("pass", "sys.exit(75)")


@pytest.fixture
def leaving(tmp_path: Path) -> str:
    """A server that answers 421 from the third MAIL on."""
    file = tmp_path / "leaving.toml"
    file.write_text(
        rules(one("mail", after=2, reply="421 4.3.2 bye"), "[expect]\ndelivered = { times = 1 }").text, "utf-8"
    )
    return str(file)


def test_mail_that_is_lost(leaving: str) -> None:
    report = reported(leaving, *python(LOSES, "{host}", "{port}", "5"))
    assert (report["result"], report["exit"]) == ("lost", 1)
    assert report["result_in_words"] == "lost: 3 of 5 items, and the client exited with 0"
    assert (report["items"]["missing"], len(report["items"]["lost"])) == (3, 3)
    assert outcomes(report)["expect.delivered"] == outcomes(report)["smtp.tries-again"] == "broken"
    text = tried(leaving, *python(LOSES, "{host}", "{port}", "3")).stdout
    assert text.startswith("lost: 1 of 3 items, and the client exited with 0\n  ")
    assert "mail: 421 4.3.2 bye" in text.splitlines()[1]


def test_what_the_client_reports_is_accepted_where_the_user_says_so(leaving: str) -> None:
    client = python(TELLS, "{host}", "{port}", "3")
    assert (reported(leaving, *client)["result"], reported(leaving, *client)["exit"]) == ("reported", 1)
    report = reported(leaving, "--accept", "reported", *client)
    assert (report["result"], report["exit"]) == ("reported", 0)
    assert outcomes(report)["expect.delivered"] == outcomes(report)["smtp.tries-again"] == "not exercised"
    lost = reported(leaving, "--accept", "reported", *python(LOSES, "{host}", "{port}", "3"))
    assert (lost["result"], lost["exit"], outcomes(lost)["expect.delivered"]) == ("lost", 1, "broken")


def test_a_loss_that_the_user_accepts_is_none_to_the_scenario_but_still_breaks_the_rule(leaving: str) -> None:
    lost = reported(leaving, "--accept", "lost", *python(LOSES, "{host}", "{port}", "3"))
    found = outcomes(lost)
    assert (lost["result"], found["expect.delivered"], found["smtp.tries-again"]) == ("lost", "not exercised", "broken")
    assert lost["exit"] == 1
    lax = reported(leaving, "--accept", "lost", "--level", "must", *python(LOSES, "{host}", "{port}", "3"))
    assert (lax["outcome"], lax["exit"]) == ("well behaved", 0)


def test_a_result_or_a_count_that_there_is_not(leaving: str) -> None:
    for words, said in (
        (("--accept", "fine"), "'fine' is not one of 'reported'"),
        (("--count", "0"), "0 is not in the range x>=1"),
        (("--level", "may"), "'may' is not one of 'must'"),
        (("--role", "server"), "'server' is not one of 'client'"),
    ):
        result = tried(leaving, *words, *python(""))
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr


TWO_AT_A_TIME = """
    import smtplib, socket, sys, time
    host, port = sys.argv[1], int(sys.argv[2])
    for one in [socket.create_connection((host, port)) for _ in range(2)]:
        one.recv(100)
        one.close()
    time.sleep(0.3)
    with smtplib.SMTP(host, port, timeout=5) as server:
        server.sendmail("a@client.test", ["b@server.test"], "Message-ID: <1@client.test>\\r\\n\\r\\nhi")
"""


def test_the_number_of_items_settles_a_doubt() -> None:
    client = python(TWO_AT_A_TIME, "{host}", "{port}")
    overload = ("smtp/overload", "--set", "outage=4s", "--speed", "20", "--level", "must")
    open_question = reported(*overload, *client)
    assert (open_question["result"], open_question["outcome"], open_question["exit"]) == ("unknown", "inconclusive", 4)
    assert "--count N" in open_question["doubts"][0]["settled_by"]
    assert reported(*overload, "--count", "1", *client)["result"] == "delivered"
    two = reported(*overload, "--count", "2", *client)
    assert (two["result_in_words"], two["exit"]) == ("lost: 1 of 2 items, and the client exited with 0", 1)


def test_a_scenario_of_which_nothing_fired_has_tested_nothing() -> None:
    result = tried("smtp/too-many-connections", *sender())
    assert result.exit_code == 4
    assert result.stdout.splitlines()[-1] == (
        "notnow: nothing was tested: smtp/too-many-connections has faults at connect, and none of them fired. "
        "`notnow show smtp/too-many-connections` says what would make one fire"
    )


@needs_curl
def test_a_client_that_nobody_gave_the_ca_has_been_tested_for_nothing() -> None:
    client = ("--", "curl", "-sS", "https://localhost:{port}/")
    result = tried("http/overload", *client)
    assert result.exit_code == 4
    said = result.stdout.splitlines()[-1]
    assert said.startswith(
        "notnow: nothing was tested: the client rejected the certificate (TLS alert unknown_ca), because"
    )
    assert "--cacert {ca_file}" in said
    assert reported("http/healthy", *client)["outcome"] == "nothing tested"
    assert reported("http/healthy", *client[:3], "--cacert", "{ca_file}", client[-1])["outcome"] == "well behaved"


@needs_curl
def test_a_proxy_keeps_back_what_it_must_not_repeat() -> None:
    """RFC 9110 §9.2.2: a proxy MUST NOT automatically retry a request that is not idempotent."""
    client = ("--", "curl", "-sS", "-d", "x", "--cacert", "{ca_file}", "https://localhost:{port}/")
    as_client, as_proxy = (reported("http/misdirected-post", "--role", role, *client) for role in ("client", "proxy"))
    assert (as_client["result"], as_client["exit"]) == ("lost", 1)
    assert (as_proxy["result"], as_proxy["exit"]) == ("refused", 0)


def test_a_baseline_lets_pass_what_is_known_and_nothing_else(leaving: str, tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    client = python(LOSES, "{host}", "{port}", "3")
    assert tried(leaving, "--baseline", str(file), "--write-baseline", *client).exit_code == 0
    known = json.loads(file.read_text("utf-8"))["runs"][leaving]
    assert (known["result"], "smtp.tries-again" in known["broken"]) == ("lost", True)
    result = tried(leaving, "--baseline", str(file), *client)
    assert result.exit_code == 0
    assert "the baseline or --level lets pass" in result.stdout.splitlines()[-1]
    file.write_text(file.read_text("utf-8").replace('"smtp.tries-again"', '"smtp.jitter"'), "utf-8")
    assert "it broke smtp.tries-again" in tried(leaving, "--baseline", str(file), *client).stdout.splitlines()[-1]


def test_a_baseline_that_cannot_be_read(tmp_path: Path) -> None:
    file = tmp_path / "known.json"
    file.write_text("[]", "utf-8")
    result = tried("smtp/overload", "--baseline", str(file), *python(""))
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{file} is not a baseline: it lacks" in result.stderr


def test_a_summary_in_markdown_is_appended(leaving: str, tmp_path: Path) -> None:
    file = tmp_path / "summary.md"
    file.write_text("# before\n", "utf-8")
    tried(leaving, "--summary", str(file), *python(LOSES, "{host}", "{port}", "3"))
    text = file.read_text("utf-8")
    assert text.startswith("# before\n### ❌ ")
    assert "**lost: 1 of 3 items, and the client exited with 0**" in text
    assert "| ❌ | `expect.delivered` | must | expected every message" in text


def test_why_a_rule_fired_or_did_not(leaving: str) -> None:
    client = python(LOSES, "{host}", "{port}", "3")
    exchanges = [e for e in reported(leaving, *client)["journals"]["smtp"] if e["event"] == "exchange"]
    first, last = (e["index"] for e in (exchanges[0], next(e for e in exchanges if e["fault"])))
    lines = tried(
        leaving, "--explain", str(first), "--explain", str(last), "--explain", "9999", *client
    ).stdout.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(f"exchange {first}, smtp #1 "))
    assert lines[at + 1] == "  no rule of the phase 'one' acts at connect"
    assert lines[at + 2].startswith(f"exchange {last}, smtp #3 ")
    assert lines[at + 3] == "  phase[0].rule[0] fired: all its conditions hold"
    assert lines[at + 4] == "there is no exchange 9999: --explain without a number lists them"


def test_a_flag_before_a_scenario_in_a_file_is_no_mistake(leaving: str) -> None:
    assert tried("--json", leaving, *python("")).exit_code == 3


@pytest.mark.parametrize("where", ["before", "after"])
def test_explain_without_a_number_lists_the_exchanges(leaving: str, where: str) -> None:
    arguments = ["--explain", leaving] if where == "before" else [leaving, "--explain"]
    lines = tried(*arguments, *python(LOSES, "{host}", "{port}", "3")).stdout.splitlines()
    at = lines.index("exchanges (--explain N says why a rule fired at one of them, or did not)")
    assert re.fullmatch(r" +\d+  smtp #1 at 0s: connect -> 220 .*", lines[at + 1])
    (refused,) = (line for line in lines[at:] if line.endswith("421 4.3.2 bye   [phase[0].rule[0]]"))
    number = refused.split()[0]
    explained = tried(leaving, "--explain", number, *python(LOSES, "{host}", "{port}", "3")).stdout
    assert f"exchange {number}, smtp #3 at " in explained


# ---- fake time ---------------------------------------------------------------------------------


def test_fake_time_without_faketime_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    result = tried("smtp/healthy", "--speed", "900", "--fake-time", *python(""))
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "--fake-time needs the program faketime, which is not installed (Debian, Ubuntu: apt install" in result.stderr
    )


@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_fake_time_lets_the_client_wait_at_the_speed_of_the_fakes() -> None:
    report = reported(
        "smtp/overload",
        "--set",
        "outage=30m",
        "--speed",
        "3600",
        "--fake-time",
        "--timeout",
        "30s",
        *sender(1800, 3600),
    )
    assert (report["exit"], report["client"]["exit"]) == (0, 0)
    assert outcomes(report)["smtp.wait-before-retry"] == "held"
    told = [x["at"] for x in report["journals"]["smtp"] if x.get("moment") == "connect"]
    assert told[1] - told[0] > 1700


# ---- what does not hold ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing argument '[SERVER=]NAME…'"),
        (["smtp/healthy"], "no client command: put it after --"),
        (["smtp/healthy", "--"], "no client command: put it after --"),
        (["smtp/overlaod", "--", "x"], "did you mean 'smtp/overload'?"),
        (["smtp/overload", "--set", "otage=3s", "--", "x"], "there is no knob 'otage'"),
        (["smtp/healthy", "--level", "mst", "--", "x"], "'mst' is not one of 'must', 'should', 'advice'"),
        (["smtp/healthy", "--rule", "smtp.wait-before-rety", "--", "x"], "did you mean 'smtp.wait-before-retry'?"),
        (["smtp/healthy", "--rule", "ftp.*", "--", "x"], "there is no rule of conduct 'ftp.*'"),
        (["smtp/healthy", "--timeout", "soon", "--", "x"], "'soon' is no time; allowed: a number and a unit"),
        (["smtp/healthy", "--wait", "-1s", "--", "x"], "'-1s' is no time"),
        (["smtp/healthy", "--fake-time", "--", "x"], "--fake-time needs --speed X"),
        (["smtp/healthy", "--junit", "nowhere/x.xml", "--", "x"], "Invalid value for '--junit': there is no directory"),
        (["smtp/healthy", "--html", ".", "--", "x"], "Invalid value for '--html': '.' is a directory"),
        (
            ["smtp/healthy", "--write-baseline", "b2.json", "--", "x"],
            "--write-baseline takes no value: give the file to --baseline, as in --baseline b2.json --write-baseline",
        ),
        (["smtp/healthy", "--write-baseline=b2", "--", "x"], "--write-baseline' does not take a value"),
        (["smtp/healthy", "--json", "./report", "--", "x"], "it prints to standard output, as in --json > ./report"),
        (["-v", "seen.log", "smtp/healthy", "--", "x"], "-v takes no value: seen.log would be the name of a scenario"),
        (["smtp/healthy", "--explain", "-1", "--", "x"], "-1 is not in the range x>=0"),
        (["smtp/healthy", "--", "--help"], ""),
    ],
)
def test_invalid_arguments_start_nothing(arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "--help" in arguments:
        assert tried(*arguments).exit_code == 3  # what stands behind -- is the client's
        return
    monkeypatch.setattr("subprocess.Popen", None)
    result = tried(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_the_help_says_what_every_exit_code_means() -> None:
    text = tried("--help").stdout
    assert all(f"    {code} " in text for code in set(EXITS.values()) | {2})
    assert "-- CMD…" in text.splitlines()[0]


def test_the_levels_are_those_of_the_rules() -> None:
    assert cmd_try.LEVELS == LEVELS


def test_every_outcome_has_a_sentence() -> None:
    by_rules = {"well behaved", "not well behaved"}
    assert set(EXITS) == by_rules | set(report_text._SENTENCES)
