"""The command line: the group, and `list`, `show`, `check`, `schema`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import jsonschema
import pytest
from click.testing import CliRunner, Result

from notnow import __version__
from notnow.cli import COMMANDS, group
from notnow.errors import ScenarioError
from notnow.http_words import status_line
from notnow.language import catalogue
from notnow.language.loading import load

BUILTIN = catalogue.builtin()
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")

BROKEN = """\
protocol = "smtp"

[[phase]]
lats = "3s"

[[phase.rule]]
on = "rctp"
reply = "421 no"
"""
FINE = """\
summary = "One more."
protocol = "smtp"

[params]
wait = "3s"  # how long

[[phase]]
lasts = "{wait}"

[[phase]]
"""


def run(*arguments: str, **environment: str | None) -> Result:
    return CliRunner().invoke(group, arguments, prog_name="notnow", env=environment)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "fine.toml").write_text(FINE)
    return tmp_path


# ---- the group ---------------------------------------------------------------------------------


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z]", result.stdout, re.MULTILINE), name


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_an_example(name: str) -> None:
    result = run(name, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Examples?\b.*:\n +notnow {name}", result.stdout)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_line_of_help_is_cut_short(name: str) -> None:
    command = group.get_command(click.Context(group), name)
    assert command is not None
    assert not command.get_short_help_str(limit=68).endswith("...")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import contextlib, io, sys; from notnow.cli import main; sys.argv = ['notnow', '--help']\n"  # CliRunner imports pdb
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit): main()\n"
        "print([m for m in ('notnow.language', 'rich', 'aiosmtpd', 'trustme', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version() -> None:
    assert run("--version").stdout == f"notnow {__version__}\n"


def test_python_m_notnow_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "notnow", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"notnow {__version__}\n"


def test_an_unknown_command_is_a_usage_error_with_the_nearest() -> None:
    result = run("serev")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no command 'serev'" in result.stderr
    assert "did you mean 'serve'?" in result.stderr


# ---- list --------------------------------------------------------------------------------------


def listed(*arguments: str) -> list[str]:
    result = run("list", *arguments)
    assert result.exit_code == 0
    return [line.split("\t")[0] for line in result.stdout.splitlines()]


def test_list_has_every_scenario_with_its_summary() -> None:
    lines = run("list").stdout.splitlines()
    assert lines == [f"{name}\t{catalogue.scenario(name).summary}" for name in catalogue.names()]


@pytest.mark.parametrize(
    ("pattern", "there", "absent"),
    [
        ("overload", {"smtp/overload", "smtp/flapping-overload"}, {"smtp/greylisting"}),
        ("OVERLOAD", {"smtp/overload"}, {"smtp/greylisting"}),
        ("haraka", {"smtp/haraka-deny"}, {"smtp/overload"}),
        ("Yahoo", {"smtp/yahoo-tss04"}, {"smtp/overload"}),
        ("smtp/*-certificate", {"smtp/wrong-certificate", "smtp/expired-certificate"}, {"smtp/overload"}),
        ("over*", {"smtp/overload"}, {"smtp/flapping-overload"}),
    ],
)
def test_list_by_pattern(pattern: str, there: set[str], absent: set[str]) -> None:
    found = set(listed(pattern))
    assert there <= found
    assert not absent & found


def test_list_as_json() -> None:
    result = run("list", "smtp/overload", "--json")
    assert result.exit_code == 0
    found = {entry["name"]: entry for entry in json.loads(result.stdout)}
    assert found["smtp/overload"] == {
        "name": "smtp/overload",
        "protocol": "smtp",
        "summary": catalogue.scenario("smtp/overload").summary,
        "params": {"outage": "30s", "like": "postscreen"},
    }


def test_list_without_a_match_says_how_to_see_them() -> None:
    result = run("list", "smtp/overlaod", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no scenario matches 'smtp/overlaod'; allowed: a glob for names, " in result.stderr
    assert "`notnow list` prints them all" in result.stderr
    assert result.stderr.endswith("did you mean 'smtp/overload'?\n")


def test_list_finds_scenarios_of_your_own(own: Path) -> None:
    assert listed("--scenarios", str(own), "one more") == ["mine/fine"]


def test_a_broken_scenario_is_told_and_hides_no_other(own: Path) -> None:
    (own / "mine" / "broken.toml").write_text(BROKEN)
    result = run("list", "--scenarios", str(own))
    assert result.exit_code == 2
    assert "mine/fine\tOne more.\n" in result.stdout
    assert "broken.toml:4: phase[0].lats: there is no key 'lats'" in result.stderr


def test_list_on_a_terminal_is_grouped_and_coloured() -> None:
    result = run("list", "overload", FORCE_COLOR="1", NO_COLOR=None, TERM="xterm-256color", COLUMNS="120")
    assert COLOUR.search(result.stdout)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout).splitlines()
    assert plain[0] == "smtp"
    assert re.match(r"  smtp/\S+ +\S", plain[1])
    assert "\t" not in result.stdout


def test_no_color_is_honoured() -> None:
    result = run("list", "overload", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color")
    assert result.exit_code == 0
    assert not COLOUR.search(result.stdout)


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    listing = subprocess.Popen(
        [sys.executable, "-m", "notnow", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert listing.stdout is not None
    assert listing.stderr is not None
    listing.stdout.close()
    with listing.stderr as errors:
        assert errors.read() == ""
    listing.wait()


# ---- show --------------------------------------------------------------------------------------


def test_show_explains_a_scenario() -> None:
    result = run("show", "smtp/overload")
    assert result.exit_code == 0
    text = result.stdout
    assert "1. overloaded, for 30s\n" in text
    assert "     - at connect: says “421 4.3.2 All server ports are busy”, then closes\n" in text
    assert "2. recovered, from then on\n     all is well\n" in text
    assert re.search(r"^  outage +30s +duration +how long every connection is refused$", text, re.MULTILINE)
    assert re.search(r"^  like +postscreen +choice +wording: postscreen", text, re.MULTILINE)
    assert re.search(r"^  gmail +421 4\.4\.5 Server busy, try again later\.$", text, re.MULTILINE)
    assert "It delivers every message exactly once.\n" in text
    assert "  RFC 5321 §3.8\n" in text
    assert "  notnow serve smtp/overload --set outage=30s\n" in text
    assert '  @pytest.mark.notnow("smtp/overload", outage="30s")\n' in text


@pytest.mark.parametrize("name", catalogue.names())
def test_show_leaves_nothing_out(name: str) -> None:
    result = run("show", name)
    assert result.exit_code == 0
    scenario = catalogue.scenario(name)
    said = [line for rule in scenario.rules() for line in (*(rule.reply or ()), *(rule.body or "").splitlines())]
    said += [f"{name}: {value}" for rule in scenario.rules() for name, value in rule.headers or ()]
    said += [status_line(rule.status) for rule in scenario.rules() if rule.status]
    names = [phase.name for phase in scenario.phases]
    for part in (scenario.summary, *names, *scenario.knobs, *scenario.faults, *scenario.sources, *said):
        assert part in result.stdout


def test_show_prints_a_long_reply_line_by_line() -> None:
    text = run("show", "smtp/gmail-unusual-rate").stdout
    assert "says the lines below, then closes" in text
    assert text.count("\n         421") == 6


def test_show_wraps_on_a_terminal_with_a_hanging_indent() -> None:
    result = run("show", "smtp/outlook-rp-001", FORCE_COLOR="1", NO_COLOR="1", TERM="xterm", COLUMNS="60")
    lines = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout).splitlines()
    assert max(map(len, lines)) <= 60
    first = next(i for i, line in enumerate(lines) if line.startswith("     - at mail"))
    assert lines[first + 1].startswith("       ")


def test_show_as_toml_is_the_file() -> None:
    assert run("show", "smtp/weather", "--toml").stdout == (BUILTIN / "smtp" / "weather.toml").read_text("utf-8")


def test_show_takes_scenarios_of_your_own(own: Path) -> None:
    text = run("show", "mine/fine", "--scenarios", str(own)).stdout
    assert f"notnow serve mine/fine --set wait=3s --scenarios {own}\n" in text
    file = own / "mine" / "fine.toml"
    assert f'@pytest.mark.notnow("{file.as_posix()}", wait="3s")\n' in run("show", str(file)).stdout


def test_show_of_an_unknown_scenario_is_a_usage_error() -> None:
    result = run("show", "smtp/overlaod")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "there is no scenario 'smtp/overlaod'" in result.stderr
    assert "did you mean 'smtp/overload'?" in result.stderr


# ---- check -------------------------------------------------------------------------------------


def test_check_says_ok() -> None:
    file = BUILTIN / "smtp" / "overload.toml"
    result = run("check", str(file))
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{file}: ok (smtp, 2 phases, 1 rule)\n", "")


def test_check_prints_a_line_for_each_fault(own: Path) -> None:
    broken = own / "broken.toml"
    broken.write_text(BROKEN)
    result = run("check", str(broken), str(own / "mine" / "fine.toml"))
    assert result.exit_code == 2
    with pytest.raises(ScenarioError) as caught:
        load(broken)
    assert result.stderr.splitlines() == [str(problem) for problem in caught.value.problems]
    assert result.stdout == f"{own / 'mine' / 'fine.toml'}: ok (smtp, 2 phases, 0 rules)\n"


def test_check_prints_a_warning_and_leaves_the_exit_code_at_0(own: Path) -> None:
    file = own / "vain.toml"
    file.write_text('protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "mail"\nchance = "0%"\nreply = "451 no"\n')
    result = run("check", str(file))
    assert result.exit_code == 0
    assert result.stdout == f"{file}: ok (smtp, 1 phase, 1 rule)\n"
    assert result.stderr.startswith(f"{file}:5: warning: phase[0].rule[0].chance: found '0%': this rule never acts; ")


def test_check_makes_safe_what_a_file_says(tmp_path: Path) -> None:
    file = tmp_path / "other\u202e.toml"
    file.write_text('protocol = "smtp"\n"a\\u001b[31m\\u202e" = 1\n')
    result = run("check", str(file))
    assert result.exit_code == 2
    assert "\\x1b[31m\\u202e" in result.stderr
    assert result.stderr.replace("\n", "").isprintable()


def test_check_of_a_directory_is_of_all_in_it(own: Path) -> None:
    (own / "mine" / "broken.toml").write_text(BROKEN)
    result = run("check", str(own))
    assert result.exit_code == 2
    assert "fine.toml: ok" in result.stdout
    assert "broken.toml:4" in result.stderr


@pytest.mark.parametrize("name", ["nothing.toml", "."])
def test_check_of_nothing_is_a_fault(tmp_path: Path, name: str) -> None:
    result = run("check", str(tmp_path / name))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"{tmp_path / name}: ")
    assert len(result.stderr.splitlines()) == 1


def test_check_needs_a_file() -> None:
    assert run("check").exit_code == 2


# ---- schema ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    schema = json.loads(run("schema").stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


@pytest.mark.parametrize("file", sorted(BUILTIN.rglob("*.toml")), ids=lambda file: file.stem)
def test_every_scenario_is_valid_by_the_schema(file: Path, validator: jsonschema.Draft7Validator) -> None:
    validator.validate(tomllib.loads(file.read_text("utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        'protocol = "smpt"',
        'protocol = "smtp"\nsumary = "x"',
        'protocol = "smtp"\n[[phase]]\nlasts = 30',
        'protocol = "smtp"\n[[phase]]\nlasts = "30"',
        'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\nreply = "421 no"',
        'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "rctp"',
        'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "rcpt"\nclose = "rest"',
        'protocol = "smtp"\n[[phase]]\n[[phase.rule]]\non = "rcpt"\nnth = 0',
    ],
)
def test_what_is_wrong_is_invalid_by_the_schema(text: str, validator: jsonschema.Draft7Validator) -> None:
    assert not validator.is_valid(tomllib.loads(text))
