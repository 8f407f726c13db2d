"""`notnow storm`: the table and the pictures, files for other programs, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from notnow.chaos import storm
from notnow.chaos.crowd import showing
from notnow.cli import group

SMALL = ["smtp/overload", "--clients", "300", "--capacity", "10/s", "--outage", "1m"]
TWO = ["--policy", "constant(30s)", "--policy", "exponential(base=5s, cap=5m, jitter=full)"]


def stormed(*words: str) -> Result:
    return CliRunner().invoke(group, ["storm", *words])


def test_a_table_and_a_picture_for_each_policy() -> None:
    told = stormed(*SMALL, *TWO, "--seed", "3")
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert lines[0] == "smtp/overload: 300 clients, capacity 10/s, time-out 30s, seed 3"
    assert lines[2:4] == ["A  constant(30s)", "B  exponential(base=5s, cap=5m, jitter=full)"]
    rows = {line[:16].strip(): line[16:].split() for line in lines[5:21]}
    assert rows["through"] == ["300", "of", "300", "300", "of", "300"]
    assert rows["most in a second"][0] == "300"
    assert rows["stays down"] == ["no", "no"]
    assert {"95 % drained after", "drained after"} <= {line[:18].strip() for line in lines}
    pictures = [line for line in lines if line.startswith(("A  constant", "B  expo"))]
    assert len(pictures) == 4
    assert any("█" in line for line in lines)
    assert any("─" in line and "10/s" in line for line in lines)
    assert "\x1b" not in told.stdout
    assert stormed(*SMALL, *TWO, "--seed", "3").stdout == told.stdout


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ("constant(0s)", True), ("waits(0s) + attempts(9)", True), ("exponential(base=0s, jitter=full)", True),
        ("waits(0s, 5s)", False), ("constant(1s)", False), ("constant(0s) + retry_after", False),
    ],
)  # fmt: skip
def test_a_policy_that_never_waits_is_told(policy: str, told: bool) -> None:
    result = stormed("smtp/overload", "--clients", "2", "--outage", "1s", "--horizon", "1m", "--policy", policy)
    assert result.exit_code == 0
    assert (f"notnow: {policy} never waits" in result.stderr) is told
    assert json.loads(stormed("smtp/overload", "--clients", "2", "--outage", "1s", "--policy", policy, "--json").stdout)


def test_colour_and_columns_below_one_another_on_a_narrow_terminal() -> None:
    storms = [storm("smtp/overload", policy=f"constant({n}s)", clients=5, outage="10s") for n in range(3, 9)]
    narrow = showing.as_text(storms, terminal=40)
    assert "\x1b[" in narrow
    plain = re.sub(r"\x1b\[[0-9;]*m", "", narrow)
    assert max(map(len, plain.splitlines())) <= 40
    assert plain.count("attempts an item") > 1
    wide = re.sub(r"\x1b\[[0-9;]*m", "", showing.as_text(storms, terminal=200))
    assert wide.count("attempts an item") == 1


def test_json_has_the_terms_the_figures_and_the_series() -> None:
    found = json.loads(stormed(*SMALL, *TWO, "--json", "--queue", "50").stdout)
    assert (found["scenario"], found["clients"], found["capacity"], found["queue"]) == ("smtp/overload", 300, 10, 50)
    assert found["knobs"]["outage"] == "60s"
    first = found["storms"][0]
    assert first["policy"] == "constant(30s)"
    assert sum(first["series"]["through"]) == first["through"] == 300


def test_a_file_of_html(tmp_path: Path) -> None:
    file = tmp_path / "storm.html"
    told = stormed(*SMALL, *TWO, "--html", str(file))
    assert told.exit_code == 0
    text = file.read_text("utf-8")
    assert text.count('<svg class="storm"') == 2
    assert "exponential(base=5s, cap=5m, jitter=full)" in text
    assert "NaN" not in text
    assert "inf" not in re.findall(r' d="([^"]*)"', text)


def test_drained_within_sets_the_exit_code() -> None:
    assert stormed(*SMALL, *TWO, "--drained-within", "1h").exit_code == 0
    late = stormed(*SMALL, *TWO, "--drained-within", "1s")
    assert (late.exit_code, late.stdout.splitlines()[-1]) == (1, "notnow: not drained within 1s of the recovery: A, B")


def test_a_storm_without_items_has_not_drained() -> None:
    told = stormed("smtp/overload", "--outage", "1s", "--arrivals", "1/d", "--horizon", "1m", "--drained-within", "1h")
    assert (told.exit_code, "A: nothing was simulated: no item came until 1m" in told.stdout) == (1, True)


def test_what_the_figures_do_not_say_is_said() -> None:
    down = ["--arrivals", "7/s", "--timeout", "10s", "--horizon", "6m", "--policy", "constant(1s)"]
    told = stormed("smtp/overload", "--clients", "50", "--capacity", "10/s", "--outage", "1m", *down).stdout
    assert (
        "A: the server stays down although its cause has gone: attempts keep it busy with work that nobody waits for"
        in told
    )
    assert re.search(r"A: its clients never gave up: \d+ items still waited at 6m", told)
    refused = stormed(
        "smtp/overload", "--clients", "3", "--outage", "1h", "--horizon", "1m", "--policy", "constant(9s)"
    ).stdout
    assert re.search(r"^an item took +-$", refused, re.MULTILINE)
    assert re.search(r"^stays down +-$", refused, re.MULTILINE)
    assert "A: the scenario still refused clients when the simulation ended, at 1m" in refused


def test_a_policy_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine_to_wait.py").write_text(
        "import tenacity\nwait = tenacity.wait_fixed(20)\ndef sleeps(attempt):\n    raise OSError('no')\n"
    )
    told = stormed(
        *SMALL, "--policy", "mine_to_wait:wait + attempts(9)", "--policy", "constant(20s) + attempts(9)", "--json"
    )
    own, same = json.loads(told.stdout)["storms"]
    assert {**own, "policy": ""} == {**same, "policy": ""}
    wrong = stormed(*SMALL, "--policy", "mine_to_wait:sleeps")
    assert wrong.exit_code == 2
    assert "policy 'mine_to_wait:sleeps': it raised OSError: no after attempt 1" in wrong.stderr
    missing = stormed(*SMALL, "--policy", "mine_to_wait:wiat")
    assert (missing.exit_code, "did you mean 'wait'?" in missing.stderr) == (2, True)
    assert "which has tenacity" not in missing.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--capacity", "0/s"], "capacity: it is '0/s'; allowed: a number above 0 per second"),
        (["--clients", "0"], "clients: it is 0; allowed: a whole number from 1"),
        (["--policy", "expo(1m)"], "there is no word 'expo'"),
        (["--outage", "soon"], "'soon' is no time"),
        (["--set", "outrage=1m"], "there is no knob 'outrage'"),
        (["--policy", "nomodule:wait"], "there is no module 'nomodule'"),
    ],
)
def test_what_is_not_allowed_is_said_and_nothing_simulated(words: list[str], said: str) -> None:
    told = stormed("smtp/overload", *words)
    assert (told.exit_code, told.stdout) == (2, "")
    assert said in told.stderr


def test_an_unknown_scenario_is_said() -> None:
    assert "smtp/overlaod" in stormed("smtp/overlaod").stderr


def test_ctrl_c_has_an_exit_code_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("notnow.chaos.crowd.running.simulated", interrupted)
    told = stormed(*SMALL)
    assert (told.exit_code, told.stdout) == (130, "")
