"""`notnow replay`: what it reads, what it writes, and what it says of a client."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from notnow import FakeSMTP
from notnow.cli import group
from notnow.language.loading import load
from test_cli_try import sender

EXAMPLES = Path(__file__).parent / "examples" / "replay"
FAST = ("--speed", "600")


def replayed(*words: str | Path, input: bytes | None = None) -> Result:
    result = CliRunner().invoke(group, ["replay", *map(str, words)], prog_name="notnow", input=input)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """Of a fake that has refused a connection."""
    import smtplib

    with FakeSMTP("smtp/overload", outage="1h") as fake:
        with pytest.raises(smtplib.SMTPConnectError):
            smtplib.SMTP(fake.host, fake.port)
        with (tmp_path / "run.jsonl").open("w") as file:
            fake.journal.export(file)
    return tmp_path / "run.jsonl"


# ---- making a scenario -------------------------------------------------------------------------------


def test_the_scenario_goes_to_standard_output_and_the_tally_beside_it(journal: Path) -> None:
    result = replayed(journal)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"# Made by notnow replay from {journal}: smtp/overload.\n")
    assert result.stderr == "read 3 lines: 1 fault in 1 exchange\n"


def test_a_file_is_written_that_loads(journal: Path, tmp_path: Path) -> None:
    result = replayed(journal, "-o", tmp_path / "again.toml")
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"wrote {tmp_path / 'again.toml'}: play it with notnow serve " in result.stderr
    scenario = load(tmp_path / "again.toml")
    assert (scenario.protocol, scenario.phases[0].lasts, scenario.phases[-1].name) == ("smtp", 3600, "afterwards")


@pytest.mark.parametrize("name", ["runs", "run.jsonl", "run.toml"])
@pytest.mark.parametrize("command", [(), ("--", sys.executable)])
def test_a_directory_is_no_recording(tmp_path: Path, name: str, command: tuple[str, ...]) -> None:
    (tmp_path / name).mkdir()
    result = replayed(tmp_path / name, *command)
    assert result.exit_code == 2
    said = (
        f"{tmp_path / name} is a directory; allowed: a journal (JSON Lines), a mail.log of Postfix, a scenario (.toml)"
    )
    assert result.stderr == f"Error: {said}\n"


def test_standard_input_is_read(journal: Path) -> None:
    result = replayed("-", input=journal.read_bytes())
    assert result.stdout.startswith("# Made by notnow replay from standard input: smtp/overload.\n")


def test_one_server_of_several_is_named(journal: Path, tmp_path: Path) -> None:
    lines = journal.read_text()
    both = tmp_path / "both.jsonl"
    both.write_text(lines + lines.replace('"server": "smtp"', '"server": "backup"'))
    result = replayed(both)
    assert (result.exit_code, result.stderr) == (
        2,
        f"Error: {both} is the journal of several servers (smtp, backup); name one with --server\n",
    )
    assert replayed(both, "--server", "backup").exit_code == 0
    assert (
        "there is no server 'bakup'; allowed: smtp, backup; did you mean 'backup'?"
        in replayed(both, "--server", "bakup").stderr
    )


def test_the_only_server_whose_rules_have_fired_need_not_be_named(journal: Path) -> None:
    healthy = b'{"event": "play", "index": 9, "server": "backup", "text": "smtp/healthy"}\n'
    result = replayed("-", input=healthy + journal.read_bytes())
    assert result.exit_code == 0
    assert ": smtp/overload.\n" in result.stdout


def test_lines_of_other_programs_in_a_journal_are_counted(journal: Path) -> None:
    result = replayed("-", input=b'{"event": "listening", "name": "smtp"}\nstarted\n\n{"no":\n' + journal.read_bytes())
    assert result.stderr == "read 7 lines: 1 fault in 1 exchange; left out 2 lines of other programs\n"


def test_only_one_relay_of_a_mail_log(tmp_path: Path) -> None:
    assert "6 deferrals" not in replayed(EXAMPLES / "mail.log").stderr
    result = replayed(EXAMPLES / "mail.log", "--relay", "*.example.org")
    assert result.exit_code == 2
    assert "a scenario can repeat only what a server has said, or done to a connection" in result.stderr


# ---- what it refuses ---------------------------------------------------------------------------------

WRONG: list[tuple[bytes, str]] = [
    (b"", "FILE is empty; allowed: a journal"),
    (gzip.compress(b"x"), "FILE is compressed (gzip); unpack it first, with gunzip"),
    (b"\x7fELF\0\0\0", "FILE is no text; allowed: a journal (JSON Lines), a mail.log of Postfix, a scenario (.toml)"),
    (b'{"a": 1}\n', "FILE has no entry of a journal; allowed: JSON Lines as `notnow serve --json` prints them"),
    (b'{\n  "a": 1\n}\n', "FILE is JSON, and no report of `notnow try --json` with its journals; allowed: a journal"),
    (b'{"event": "exchange", "index": 1, "moment": "connect"}\n', "does not tell which protocol it is of"),
    (
        b'{"event": "exchange", "index": 1, "moment": "ehlo", "reply": "250 ok"}\n',
        "FILE: no rule has fired in this run, so there is nothing to repeat",
    ),
    (b"Nov 29 07:38:43 relay dovecot: imap-login: Login\n", "FILE: read 1 line: 0 deferrals in 0 deliveries; left out 1 line"),
    (b'{"event": "exchange", "moment": {}}\n', "FILE has no entry of a journal"),
    (b"[" * 100_000, "0 deferrals in 0 deliveries"),
    (b'{"event":' * 100_000, "FILE has no entry of a journal"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "said"), WRONG, ids=[said[:50] for _, said in WRONG])
def test_a_file_that_is_no_recording_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "given"
    file.write_bytes(content)
    result = replayed(file)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr.replace(str(file), "FILE")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("path", ["nosuch", "nosuch\0", ".", "nosuch.toml"])
def test_a_file_that_cannot_be_read_is_named(path: str) -> None:
    result = replayed(path, *(sender() if path.endswith(".toml") else ()))
    assert (result.exit_code, result.stdout) == (2, "")
    assert path.split("\0")[0] in result.stderr


def test_a_saved_scenario_needs_a_client() -> None:
    result = replayed(EXAMPLES / "found.toml")
    assert result.exit_code == 2
    assert "found.toml is a scenario already: put a client's command after --" in result.stderr
    assert "there is nothing to write" in replayed(EXAMPLES / "found.toml", "-o", "x.toml", *sender()).stderr


def test_an_option_about_a_client_needs_one(journal: Path) -> None:
    result = replayed(journal, "--speed", "60")
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        2,
        "Error: --speed is about a client: put its command after --",
    )


def test_hostile_words_do_not_reach_the_terminal(tmp_path: Path) -> None:
    file = tmp_path / "run.jsonl"
    told = {"event": "exchange", "index": 1, "moment": "mail", "rule": "phase[0].rule[0]", "fault": "reply"}
    file.write_text(json.dumps({**told, "reply": "421 \x1b]0;title\x07\u202e\udc80 {host}"}) + "\n")
    result = replayed(file)
    assert result.exit_code == 0
    assert not set("\x1b\x07\u202e").intersection(result.stdout)
    (tmp_path / "again.toml").write_text(result.stdout)
    (rule,) = load(tmp_path / "again.toml").phases[0].rules
    assert rule.reply == ("421 \x1b]0;title\x07\u202e? {{host}}",)


# ---- FIXED, or STILL ---------------------------------------------------------------------------------


def test_a_client_that_still_loses_its_mail() -> None:
    result = replayed(EXAMPLES / "found.toml", "--", sys.executable, EXAMPLES / "send.py", "{host}", "{port}")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "STILL: lost, as when this was saved"


def test_a_client_that_fails_in_another_way() -> None:
    result = replayed(EXAMPLES / "found.toml", *sender())
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "STILL: reported now, and lost when this was saved"


def test_a_client_that_was_repaired() -> None:
    result = replayed(EXAMPLES / "found.toml", *FAST, *sender(0.1))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "FIXED: delivered now, and lost when this was saved"


def test_a_recording_is_played_at_once(journal: Path) -> None:
    result = replayed(journal, "--speed", "36000", *sender(0.2, 0.2))
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "FIXED: delivered"
    assert result.stderr.startswith("read 3 lines: ")


def test_nothing_is_said_of_a_client_that_met_nothing() -> None:
    result = replayed(EXAMPLES / "found.toml", "--", sys.executable, "-c", "pass")
    assert result.exit_code == 3
    assert "FIXED" not in result.output
    assert "STILL" not in result.output


def test_json_stays_json() -> None:
    result = replayed(EXAMPLES / "found.toml", "--json", *FAST, *sender(0.1))
    assert json.loads(result.stdout)["exit"] == 0
    assert result.stderr.splitlines()[-1].startswith("FIXED: ")
