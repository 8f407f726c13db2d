"""action.yml: its steps are run by a small runner of our own, as GitHub's runner runs them, and the file by its schema.

What GitHub adds (its machines, its other actions, its page) is not here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import programs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ACTION = ROOT / "action.yml"
WORKFLOW = ROOT / "tests" / "examples" / "ci" / "workflow.yml"
OURS = "OWNER/notnow@v0.1.0"


@dataclass
class Runner:
    """A job on a runner: what its steps have left in files, and the outputs of those with an `id`."""

    temp: Path
    env: dict[str, str]
    outputs: dict[str, dict[str, str]] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)  # what was uploaded
    said: str = ""

    @property
    def summary(self) -> str:
        return (self.temp / "summary").read_text("utf-8")

    def job(self, steps: list[dict[str, Any]]) -> None:
        """The steps of a job in a workflow."""
        for step in steps:
            if step.get("uses") == OURS:
                given = {key: self.expand(value) for key, value in step.get("with", {}).items()}
                found = self.action(port="0", python=sys.executable, **given)
                self.outputs[step.get("id", "")] = found
            elif "run" in step:
                self.run(step)
            elif step["uses"].startswith("actions/upload-artifact@"):
                self.kept += self.expand(step["with"]["path"]).split()
            else:
                assert step["uses"].startswith("actions/checkout@")

    def action(self, **given: str) -> dict[str, str]:
        """The steps of action.yml with these inputs; its outputs."""
        about = yaml.safe_load(ACTION.read_text("utf-8"))
        assert given.keys() <= about["inputs"].keys()
        inputs = {name: one["default"] for name, one in about["inputs"].items()} | given
        for step in about["runs"]["steps"]:
            wanted = re.fullmatch(r"inputs\.mode == '(\w+)'", step["if"])
            assert wanted is not None
            if inputs["mode"] == wanted[1]:
                assert step["shell"] == "bash"
                self.run(step, inputs)
        return {name: self.expand(one["value"]) for name, one in about["outputs"].items()}

    def run(self, step: dict[str, Any], inputs: dict[str, str] | None = None) -> None:
        """A step with `run`, in bash with the options of GitHub's runner. Raises CalledProcessError."""
        files = {f"GITHUB_{name.upper()}": self.temp / name for name in ("output", "env", "path")}
        for file in files.values():
            file.write_text("")
        own = {key: self.expand(value, inputs) for key, value in step.get("env", {}).items()}
        assert "${{" not in step["run"]  # what somebody typed is no part of a script
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            env={**self.env, **{key: str(file) for key, file in files.items()}, **own},
            cwd=self.env["GITHUB_WORKSPACE"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=200,
        )
        self.said += done.stdout
        assert done.returncode == 0, done.stdout
        self.env |= _pairs(files["GITHUB_ENV"])
        for folder in files["GITHUB_PATH"].read_text().split():
            self.env["PATH"] = f"{folder}{os.pathsep}{self.env['PATH']}"
        if "id" in step:
            self.outputs[step["id"]] = _pairs(files["GITHUB_OUTPUT"])

    def expand(self, text: str, inputs: dict[str, str] | None = None) -> str:
        """A value with its expressions replaced: `inputs.x`, `steps.x.outputs.y`, and `fromJSON(…).a.b` of that."""

        def value(found: re.Match[str]) -> str:
            if found["input"]:
                return (inputs or {})[found["input"]]
            one: Any = self.outputs.get(found["step"], {}).get(found["output"], "")
            if found["json"]:
                one = json.loads(one)
                for key in found["keys"].split(".")[1:]:
                    one = one[key]
            return str(one)

        output = r"steps\.(?P<step>\w+)\.outputs\.(?P<output>\w+)"
        pattern = rf"\$\{{\{{ (?:inputs\.(?P<input>\w+)|(?P<json>fromJSON\()?{output}\)?(?P<keys>[\w.]*)) \}}\}}"
        expanded = re.sub(pattern, value, text)
        assert "${{" not in expanded
        return expanded


def _pairs(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text("utf-8").splitlines())


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    programs.need("bash", "bash")
    programs.need("jq", "jq")
    kept = {key: os.environ[key] for key in os.environ if key.startswith(("PATH", "HOME", "LANG", "PIP_", "TMP"))}
    temp = tmp_path / "temp"
    temp.mkdir()
    workspace = shutil.copytree(WORKFLOW.parent, tmp_path / "work")
    place = {"RUNNER_TEMP": temp, "GITHUB_ACTION_PATH": ROOT, "GITHUB_WORKSPACE": workspace}
    env = {**kept, **{key: str(path) for key, path in place.items()}, "GITHUB_STEP_SUMMARY": str(temp / "summary")}
    runner = Runner(temp, env)
    try:
        yield runner
    finally:
        for outputs in runner.outputs.values():
            if outputs.get("pid"):
                os.kill(int(outputs["pid"]), signal.SIGTERM)


@pytest.fixture
def installed(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A runner on which the step that installs is done: its command is that of these tests."""
    place = runner.temp / "notnow" / "bin"
    place.mkdir(parents=True)
    (place / "notnow").symlink_to(Path(sys.executable).with_name("notnow"))
    runner.env["PATH"] = f"{place}{os.pathsep}{runner.env['PATH']}"
    whole = runner.run
    monkeypatch.setattr(
        runner, "run", lambda step, inputs=None: None if "Install" in step.get("name", "") else whole(step, inputs)
    )
    return runner


def steps() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(WORKFLOW.read_text("utf-8"))["jobs"]["mail"]["steps"]
    return found


def test_the_workflow_of_the_documentation(runner: Runner) -> None:
    runner.env["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    runner.job(steps())
    assert "not sent: (421, b'4.3.2 All server ports are busy')" in runner.said
    assert "notnow: well behaved" in runner.said
    assert f"The control API listens on {runner.outputs['notnow']['url']}." in runner.summary
    assert re.search(r"^\| primary \| smtp/overload \| smtp://127\.0\.0\.1:\d+ \|$", runner.summary, re.MULTILINE)
    assert "well behaved" in runner.summary.partition("| backup |")[2]  # the report follows
    junit, journal = (Path(runner.env["GITHUB_WORKSPACE"], kept) for kept in runner.kept)
    assert "<testsuite " in junit.read_text("utf-8")
    assert '"reply": "421 4.3.2 All server ports are busy"' in journal.read_text("utf-8")


def test_a_client_that_misbehaves_fails_the_job(installed: Runner) -> None:
    installed.outputs["notnow"] = installed.action(servers="primary=smtp/overload backup=smtp/healthy", port="0")
    primary = "${{ fromJSON(steps.notnow.outputs.servers).primary.port }}"
    installed.job([{"run": "python3 send.py || true", "env": {"PRIMARY": primary, "BACKUP": primary}}])
    with pytest.raises(AssertionError, match="not well behaved"):
        installed.action(mode="report", arguments="--count 1 --exit 0")
    assert "<failure" in Path(installed.env["GITHUB_WORKSPACE"], "notnow.xml").read_text("utf-8")


def test_tests_may_start_servers_of_their_own(installed: Runner) -> None:
    outputs = installed.outputs["notnow"] = installed.action(port="0", arguments="--speed 60\n--seed 421")
    assert outputs["servers"] == "{}"
    assert installed.env["NOTNOW_CONTROL"] == outputs["url"]


def test_what_serve_refuses_fails_the_job_with_its_sentence(installed: Runner) -> None:
    with pytest.raises(AssertionError, match="smtp/overload"):
        installed.action(servers="smtp/overlaod")


@pytest.mark.parametrize(("schema", "file"), [("github-actions", ACTION), ("github-workflows", WORKFLOW)])
def test_it_is_valid_by_its_schema(schema: str, file: Path) -> None:
    programs.need("check-jsonschema", "check-jsonschema")
    command = ["check-jsonschema", "--builtin-schema", f"vendor.{schema}", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
