"""`notnow sweep`: a client in a process of its own, every fault at every event, reports and exit codes."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from notnow.cli import group

ONCE = """
    import os, smtplib, sys
    with smtplib.SMTP(os.environ["NOTNOW_HOST"], int(os.environ["NOTNOW_PORT"]), timeout=5) as connection:
        connection.sendmail("a@x.test", ["b@x.test", "c@x.test"], "Message-ID: <1@x.test>\\n\\nhello")
"""


@pytest.fixture
def client(tmp_path: Path) -> list[str]:
    """The command of a client that tells its caller by its exit code what it could not do."""
    return program(tmp_path, ONCE)


def program(folder: Path, text: str) -> list[str]:
    file = folder / "client.py"
    file.write_text("\n".join(line[4:] for line in text.splitlines()))
    return [sys.executable, str(file)]


def swept(*words: str) -> Result:
    return CliRunner().invoke(group, ["sweep", *words])


def test_a_matrix_the_worst_cells_and_how_to_run_them_again(client: list[str]) -> None:
    told = swept("smtp", "--at", "rcpt", "--fault", "421", "--fault", "451", "--", *client)
    assert told.exit_code == 1  # smtplib goes on where one of two recipients is refused with 451
    lines = told.stdout.splitlines()
    assert lines[0] == "healthy run: delivered: all of 2 items, in 8 events"
    assert lines[2].split() == ["421", "451"]
    assert lines[3].split() == ["rcpt#1", "RCPT", "TO:<b@x.test>", "told", "LOST"]
    assert lines[4].split() == ["rcpt#2", "RCPT", "TO:<c@x.test>", "told", "LOST"]
    assert "rcpt#1:451: RCPT TO:<b@x.test> is answered 451" in lines
    assert "  lost: 1 of 2 items, and the client exited with 0" in lines
    assert lines[-1] == "notnow: 2 of 4 cells went wrong: 2 lost, 2 reported"
    assert "\x1b" not in told.stdout
    again = next(line for line in lines if line.startswith("  again: "))
    words = shlex.split(again.removeprefix("  again: notnow sweep "))
    assert words == ["smtp", "--cell", "rcpt#1:451", "--", *client]
    once_more = swept(*words)
    assert once_more.exit_code == 1
    assert once_more.stdout.splitlines()[-1] == "notnow: 1 of 1 cell went wrong: 1 lost"


def test_nothing_went_wrong(client: list[str]) -> None:
    told = swept("smtp", "--at", "connect", "--at", "mail", "--fault", "421", "--", *client)
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (0, "notnow: no cell went wrong: 2 reported")


def test_reports(client: list[str], tmp_path: Path) -> None:
    junit, html, summary, saved = (tmp_path / name for name in ("s.xml", "s.html", "s.md", "saved"))
    summary.write_text("before\n")
    files = ["--junit", str(junit), "--html", str(html), "--summary", str(summary), "--save", str(saved)]
    told = swept("smtp", "--at", "rcpt", "--fault", "451", "--json", *files, "--", *client)
    found = json.loads(told.stdout)
    assert (found["exit"], found["items"], found["steady"]) == (1, 2, True)
    assert [(cell["id"], cell["result"], cell["bad"]) for cell in found["cells"]] == [
        ("rcpt#1:451", "lost", True),
        ("rcpt#2:451", "lost", True),
    ]
    (suite,) = ET.parse(junit).getroot().iter("testsuite")
    assert [(case.get("name"), case.find("failure") is not None) for case in suite.iter("testcase")] == [
        ("rcpt#1:451", True),
        ("rcpt#2:451", True),
    ]
    text = html.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert 'href="#rcpt#1:451"' in text
    assert "RCPT TO:&lt;b@x.test&gt;" in text
    assert summary.read_text().startswith("before\n### notnow sweep smtp: 2 of 2 cells went wrong: 2 lost\n")
    assert "| `rcpt#1 RCPT TO:<b@x.test>` | LOST |" in summary.read_text()
    first = saved / "rcpt-1-451.toml"
    assert first.read_text().startswith("# found by notnow sweep: lost\n")
    tried = CliRunner().invoke(group, ["try", str(first), "--count", "2", "--", *client])
    assert (tried.exit_code, tried.stdout.splitlines()[0]) == (1, "lost: 1 of 2 items, and the client exited with 0")


def test_a_client_that_fails_without_a_fault(tmp_path: Path) -> None:
    told = swept("smtp", "--", *program(tmp_path, ONCE + "\n    print('no queue'); sys.exit(3)\n"))
    assert told.exit_code == 3
    assert told.stdout == ""
    assert (
        "Error: the client fails without any fault: false alarm: 2 items came through, but the client exited with 3"
        in told.stderr
    )
    assert "client: no queue" in told.stderr


def test_a_client_that_cannot_be_run() -> None:
    told = swept("smtp", "--", "no-such-client", "{port}")
    assert (told.exit_code, told.stderr) == (3, "Error: could not be run: no-such-client: No such file or directory\n")


def test_nothing_tested(tmp_path: Path) -> None:
    marker = tmp_path / "runs"
    second = """
    from pathlib import Path
    runs = Path(sys.argv[1])
    runs.write_text(runs.read_text() + "x" if runs.exists() else "x")
    if len(runs.read_text()) < 3:
        smtplib.SMTP(os.environ["NOTNOW_HOST"], int(os.environ["NOTNOW_PORT"])).quit()
    """
    told = swept("smtp", "--cell", "connect#2:421", "--", *program(tmp_path, ONCE + second), str(marker))
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (4, "notnow: no cell went wrong: 1 not reached")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["smtp"], "no client command: put it after --, as in -- python send.py {host} {port}"),
        (["smpt", "--", "true"], "did you mean"),
        (["smtp/overload", "--", "true"], "smtp/overload has faults of its own, at connect"),
        (["smtp", "--fault", "422", "--", "true"], "there is no fault '422'"),
        (["smtp", "--at", "rctp", "--", "true"], "did you mean 'rcpt'?"),
        (["smtp", "--budget", "soon", "--", "true"], "'soon' is no time"),
        (["smtp", "--fake-time", "--", "true"], "--fake-time needs --speed X"),
        (["smtp", "--json", "x.json", "--", "true"], "--json takes no value"),
        (["smtp", "--junit", "/no/such/place/x.xml", "--", "true"], "there is no directory"),
        (
            ["smtp", "--before", "no-such-program", "--", "true"],
            "--before cannot be run: no-such-program: No such file",
        ),
        (["smtp", "--before", "false", "--", "true"], "--before exited with 1: false: it said nothing"),
    ],
)
def test_mistakes(words: list[str], said: str) -> None:
    told = swept(*words)
    assert (told.exit_code, told.stdout) == (2, "")
    assert said in told.stderr


def test_state_is_put_in_place_before_each_run(tmp_path: Path, client: list[str]) -> None:
    (tmp_path / "client.py").write_text(
        (tmp_path / "client.py").read_text() + f"\nimport os; os.remove({str(tmp_path / 'queue')!r})\n"
    )
    around = ["--before", f"touch {tmp_path / 'queue'}", "--after", f"rm -f {tmp_path / 'queue'}", "--jobs", "1"]
    told = swept("smtp", "--at", "noop", "--at", "quit", "--fault", "close", *around, "--", *client)
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (0, "notnow: no cell went wrong: 1 delivered")


def test_a_client_that_hangs_is_ended(tmp_path: Path) -> None:
    patient = ONCE.replace(", timeout=5", "")
    told = swept("smtp", "--cell", "mail#1:stall", "--timeout", "1s", "--", *program(tmp_path, patient))
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (1, "notnow: 1 of 1 cell went wrong: 1 hung")
    assert told.stderr.splitlines()[-1].startswith("hung: it was ended after 1s (--timeout). If it was only waiting ")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT to a process group")
def test_ctrl_c_ends_all_clients_and_shows_what_there_is(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    first, _, rest = ONCE.replace("timeout=5", "timeout=60").partition("    with smtplib")
    told = f"    open({str(begun)!r}, 'a').write(str(os.getpid()) + chr(10))\n"
    client = program(tmp_path, f"{first}{told}    with smtplib{rest}")
    process = subprocess.Popen(
        [sys.executable, "-m", "notnow", "sweep", "smtp", "--cell", "mail#1:stall", "--timeout", "60s", "--", *client],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while len(clients(begun)) < 3 and process.poll() is None:  # two healthy runs, and the one that stalls
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "not run: 1 cell, because the budget was used up or the sweep was stopped" in out
    assert not [pid for pid in clients(begun) if Path(f"/proc/{pid}").exists()]


def clients(begun: Path) -> list[str]:
    """The process IDs of the clients that have begun."""
    return begun.read_text().split() if begun.exists() else []


def test_fake_time_shrinks_the_waits_of_the_client(tmp_path: Path) -> None:
    if shutil.which("faketime") is None:
        pytest.skip("faketime is not installed")
    retries = """
    import os, smtplib, time
    for wait in (600, 600):
        try:
            with smtplib.SMTP(os.environ["NOTNOW_HOST"], int(os.environ["NOTNOW_PORT"])) as connection:
                connection.sendmail("a@x.test", ["b@x.test"], "Message-ID: <1@x.test>\\n\\nhello")
            break
        except smtplib.SMTPException:
            time.sleep(wait)
    """
    words = ["--cell", "mail#1:421", "--speed", "1000", "--fake-time", "--", *program(tmp_path, retries)]
    told = swept("smtp", *words)
    assert (told.exit_code, told.stdout.splitlines()[-1]) == (0, "notnow: no cell went wrong: 1 delivered")
