"""`serve` and `try` in front of the user's own servers: from the option to the wire, and what is refused before the start."""

from __future__ import annotations

import ftplib
import json
import smtplib
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli_process import PATIENCE, Notnow
from notnow import FakeHTTP, FakeSMTP
from notnow.cli import group

PLAIN = 'protocol = "http"\n[[phase]]\nname = "one"\n[[phase.rule]]\non = "request"\nwhere = { path = "/no" }\nstatus = 503\n'
FETCH = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1] + '/yes').read().decode())"


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return bytes(answer.read())


def rejects(*arguments: str) -> str:
    """What a command says as it refuses to start, which must be all that it does."""
    result = CliRunner().invoke(group, [*arguments], prog_name="notnow")
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A scenario for HTTP in clear that refuses one path."""
    (tmp_path / "plain.toml").write_text(PLAIN)
    return str(tmp_path / "plain.toml")


def test_serve_in_front_of_all_kinds_at_once(plain: str, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "a.txt").write_bytes(b"a")
    with FakeHTTP(tls="none") as echo, FakeSMTP() as mailpit:
        own = ["--files", str(tmp_path / "site"), "--upstream", echo.url, "--forward", mailpit.url]
        with Notnow("serve", plain, "smtp/healthy", "ftp/healthy", *own, "--json") as notnow:
            http, smtp, ftp = (notnow.event() for _ in range(3))
            assert json.loads(fetched(http["url"] + "/yes?a"))["query"] == "a"
            with pytest.raises(urllib.error.HTTPError, match="503"):
                fetched(http["url"] + "/no")
            with ftplib.FTP() as client:
                client.connect(ftp["host"], ftp["port"], timeout=PATIENCE)
                client.login()
                assert client.nlst() == ["a.txt"]
            with smtplib.SMTP(smtp["host"], smtp["port"], timeout=PATIENCE) as mailer:
                mailer.sendmail("a@client.test", ["b@server.test"], "Subject: hi\r\n\r\n")
            mailpit.wait_for(lambda _: mailpit.messages, timeout=PATIENCE)
            assert notnow.stop()[0] == 0
    assert [x.request for x in echo.journal if x.moment == "request"] == [f"GET 127.0.0.1:{http['port']}/yes?a"]


def test_serve_shows_why_an_answer_or_a_message_was_not_passed_on(plain: str) -> None:
    with FakeSMTP() as one, FakeHTTP(tls="none") as other:
        own = ["--upstream", other.url, "--forward", one.url]
    with Notnow("serve", plain, "smtp/healthy", *own) as notnow:
        words = " ".join(notnow.line() for _ in range(5)).split()
        url = next(word for word in words if word.startswith("http://"))
        host, _, port = (
            next(word for word in words if word.startswith("smtp://")).removeprefix("smtp://").partition(":")
        )
        with pytest.raises(urllib.error.HTTPError, match="502"):
            fetched(url)
        line = next(line for line in notnow.lines() if "GET" in line)
        assert line.endswith(f"-> 502 Bad Gateway, the upstream {other.url} cannot be reached: Connection refused")
        with smtplib.SMTP(host, int(port), timeout=PATIENCE) as mailer:
            mailer.sendmail("a@client.test", ["b@server.test"], "Subject: hi\r\n\r\n")
        line = next(line for line in notnow.lines() if "==" in line)
        said = f"<a@client.test> to b@server.test is not forwarded to {one.url}: Connection refused"
        assert line.endswith(f"== forward: {said} ==")
        assert notnow.stop()[0] == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_serve_runs_an_app_of_the_current_directory(
    plain: str, workers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mysite.py").write_text("from notnow.servers.http.echo import echo as app\n")
    monkeypatch.chdir(tmp_path)
    with Notnow("serve", plain, "--app", "mysite:app", "--workers", workers, "--json") as notnow:
        assert json.loads(fetched(notnow.event()["url"] + "/yes"))["path"] == "/yes"


def test_try_takes_the_same_options(plain: str) -> None:
    with FakeHTTP(tls="none") as echo:
        arguments = ["try", plain, "--upstream", echo.url, "--json", "--", sys.executable, "-c", FETCH, "{url}"]
        result = CliRunner().invoke(group, arguments, prog_name="notnow")
        assert json.loads(result.stdout)["client"]["exit"] == 0
    assert echo.journal.count("request") == 1


@pytest.mark.parametrize("command", ["serve", "try"])
def test_another_machine_is_refused_before_the_start(command: str) -> None:
    after = ["--", "true"] if command == "try" else []
    for name, option, url in (
        ("http/healthy", "--upstream", "http://192.0.2.1:80"),
        ("smtp/healthy", "--forward", "smtp://mail.example.org:25"),
    ):
        said = rejects(command, name, option, url, *after)
        assert f"Error: {option[2:]} is {url!r}: a fake never relays to another machine; allowed: " in said


def test_what_cannot_stand_behind_a_fake_is_refused(tmp_path: Path) -> None:
    assert "is not a directory; allowed: a directory with at most" in rejects(
        "serve", "ftp/healthy", "--files", "nowhere"
    )
    assert "--files is for none of these servers; allowed: servers of ftp" in rejects(
        "serve", "smtp/healthy", "--files", str(tmp_path)
    )
    assert "'files' is no option of smtp servers" in rejects("serve", "a=smtp/healthy", "--files", f"a={tmp_path}")
    assert "--app: 'main'; allowed: MODULE:ATTRIBUTE" in rejects("serve", "http/healthy", "--app", "main")
    assert "which does not take these three arguments" in rejects("serve", "http/healthy", "--app", "json:loads")
    both = ["--app", "notnow.servers.http.echo:echo", "--upstream", "http://127.0.0.1:8000"]
    assert "app and upstream are both given" in rejects("serve", "http/healthy", *both)
