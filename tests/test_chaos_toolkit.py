"""`notnow.chaos.toolkit`: each action and probe, here and over the control API, and an experiment run by Chaos Toolkit itself."""

from __future__ import annotations

import inspect
import json
import logging
import os
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import programs
import pytest

import control_api
from notnow.chaos import toolkit
from notnow.errors import ControlError, ScenarioError

EXAMPLE = Path(__file__).parent / "examples" / "chaos"
MAIL = "Message-ID: <1@client.test>\r\n\r\nhello"


@pytest.fixture(params=["here", "there"])
def where(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The arguments that say where the servers run; they are stopped."""
    if request.param == "here":
        yield {}
        toolkit.stop()
        return
    with control_api.running() as api:
        yield {"url": api.url}
        api.clear()


def send(played: dict[str, Any]) -> None:
    with smtplib.SMTP(played["host"], played["port"]) as server:
        server.sendmail("a@client.test", ["b@server.test"], MAIL)


def test_a_run_in_its_own_words(where: dict[str, str]) -> None:
    played = toolkit.play("smtp/overload", "mx", {"outage": "1h"}, speed=0, **where)
    assert (played["name"], played["scenario"], played["url"]) == (
        "mx",
        "smtp/overload",
        f"smtp://127.0.0.1:{played['port']}",
    )
    assert toolkit.result(**where) == "nothing asked"
    with pytest.raises(smtplib.SMTPConnectError):
        send(played)
    assert toolkit.result("mx", exit_code=0, **where) == "lost"
    assert toolkit.conduct("mx", exit_code=0, **where) == "not well behaved"
    assert (toolkit.deliveries("mx", **where), toolkit.amplification("mx", **where)) == (0, 1.0)

    toolkit.advance("1h", "mx", **where)
    send(played)
    assert toolkit.result("mx", exit_code=0, **where) == "delivered"
    assert toolkit.conduct("mx", exit_code=0, count=1, **where) == "well behaved"
    assert (toolkit.deliveries("mx", **where), toolkit.amplification("mx", **where)) == (1, 2.0)


def test_another_scenario_on_the_same_server(where: dict[str, str]) -> None:
    first = toolkit.play("smtp/healthy", **where)
    again = toolkit.play("smtp/dns-blocklist", "smtp", **where)
    assert (first["name"], again["port"]) == ("smtp", first["port"])
    with pytest.raises(smtplib.SMTPException):
        send(again)
    assert toolkit.amplification(**where) == 1.0


def test_clients_are_cut_off_and_servers_stopped(where: dict[str, str]) -> None:
    played = toolkit.play("smtp/healthy", **where)
    with smtplib.SMTP(played["host"], played["port"]) as server:
        assert toolkit.kick(**where) == 1
        assert server.noop()[0] == 421
        server.close()
    toolkit.stop("smtp", **where)
    with pytest.raises(ConnectionRefusedError):
        send(played)
    with pytest.raises(LookupError, match="no server runs; begin with `play`"):
        toolkit.kick(**where)


def test_all_clocks_move_together(where: dict[str, str]) -> None:
    played = [toolkit.play("smtp/overload", name, {"outage": "1h"}, speed=0, **where) for name in ("mx1", "mx2")]
    for one in played:
        with pytest.raises(smtplib.SMTPConnectError):
            send(one)
    toolkit.advance(3600, **where)
    for one in played:
        send(one)
        assert toolkit.deliveries(one["name"], **where) == 1


def test_a_server_must_be_named_where_there_are_several(where: dict[str, str]) -> None:
    toolkit.play("smtp/healthy", "mx1", **where)
    toolkit.play("ftp/healthy", "files", **where)
    with pytest.raises(LookupError, match="several servers run: mx1, files; name one of them as `server`"):
        toolkit.result(**where)
    with pytest.raises(LookupError, match="there is no server 'mx'; allowed: mx1, files; did you mean 'mx1'"):
        toolkit.result("mx", **where)


def test_what_is_wrong_is_raised(
    where: dict[str, str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        logging.getLogger("chaostoolkit"), "disabled", False
    )  # other tests set up logging as Django does
    with pytest.raises(ScenarioError, match="there is no scenario 'smtp/overlod'"):
        toolkit.play("smtp/overlod", **where)
    with pytest.raises(ScenarioError, match="there is no knob 'outtage'"):
        toolkit.play("smtp/overload", knobs={"outtage": "1h"}, **where)
    played = toolkit.play("smtp/overload", **where)
    with pytest.raises(smtplib.SMTPConnectError):
        send(played)
    toolkit.conduct(exit_code=0, **where)
    assert "smtp.tries-again (should): the mail behind #1 got 421 and was not tried again" in caplog.text


def test_a_control_api_that_is_not_there_is_named() -> None:
    with pytest.raises(ControlError, match="there is no control API at http://127.0.0.1:1"):
        toolkit.result(url="http://127.0.0.1:1")


def test_every_function_has_arguments_that_json_can_give() -> None:
    for name in toolkit.__all__:
        function = getattr(toolkit, name)
        assert inspect.getdoc(function)
        assert {"url", "token"} <= inspect.signature(function).parameters.keys(), name


# ---- the real one --------------------------------------------------------------------------------------


def run(script: str, directory: Path, **instead: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the example in a copy of it; `instead` has other texts for some of its files."""
    shutil.copytree(EXAMPLE, directory, dirs_exist_ok=True)
    for name, text in instead.items():
        (directory / name.replace("_", ".")).write_text(text)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", script]
    return subprocess.run(
        command, cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=60
    )


CARELESS = {
    "shop_py": (EXAMPLE / "shop.py").read_text("utf-8").replace("(0.5, 1, 2, 4, None)", "(None,)"),
    "experiment_json": (EXAMPLE / "experiment.json").read_text("utf-8").replace("=20s", "=2s"),  # it waits in vain
}


def test_an_experiment_holds_for_a_careful_client(tmp_path: Path) -> None:
    programs.need("jq", "jq")
    done = run("run.sh", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "journal.json").read_text("utf-8"))
    assert (told["status"], told["deviated"]) == ("completed", False)
    after = {one["activity"]["name"]: one["output"] for one in told["steady_states"]["after"]["probes"]}
    assert after["no mail is lost or sent twice"] == "delivered"
    assert after["the shop behaves"] == "well behaved"
    assert 1 < after["a mail takes three tries at most"] <= 3
    assert [one["status"] for one in told["rollbacks"]] == ["succeeded"]


def test_an_experiment_finds_a_careless_client(tmp_path: Path) -> None:
    programs.need("jq", "jq")
    done = run("run.sh", tmp_path, **CARELESS)
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads((tmp_path / "journal.json").read_text("utf-8"))
    assert told["deviated"] is True
    (last,) = [one for one in told["steady_states"]["after"]["probes"] if not one["tolerance_met"]]
    assert (last["activity"]["name"], last["output"]) == ("no mail is lost or sent twice", "lost")


def test_the_same_steps_as_a_shell_script(tmp_path: Path) -> None:
    programs.need("curl", "curl")
    programs.need("jq", "jq")
    done = run("plain.sh", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = done.stdout.splitlines()
    assert first == "delivered, well behaved, 1 tries for each mail"
    assert second.startswith("delivered, well behaved, ")
