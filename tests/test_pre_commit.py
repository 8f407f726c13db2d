"""The hook for pre-commit: its manifest, the configuration that the documentation shows, and a run in a repository."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import programs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "tests" / "examples"
CONFIG = EXAMPLES / "ci" / "pre-commit-config.yaml"
MANIFEST = ROOT / ".pre-commit-hooks.yaml"


def run(*command: str, cwd: Path = ROOT, **env: str) -> tuple[int, str]:
    merged = {**{k: v for k, v in os.environ.items() if not k.startswith("GIT_")}, **env}
    done = subprocess.run(command, cwd=cwd, env=merged, capture_output=True, text=True, timeout=200)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(autouse=True)
def needs_pre_commit() -> None:
    programs.need("git", "git")
    programs.need("pre-commit", "pre-commit")


def test_the_manifest_and_the_configuration_are_valid() -> None:
    assert run("pre-commit", "validate-manifest", str(MANIFEST)) == (0, "")
    assert run("pre-commit", "validate-config", str(CONFIG)) == (0, "")
    hooks = yaml.safe_load(CONFIG.read_text("utf-8"))["repos"][0]["hooks"]
    assert hooks == [{"id": hook["id"]} for hook in yaml.safe_load(MANIFEST.read_text("utf-8"))]


def test_a_commit_with_a_mistake_in_a_scenario_fails(tmp_path: Path) -> None:
    """pre-commit installs notnow from this checkout, and checks what the pattern of the hook finds."""
    project = tmp_path / "project"
    (project / "scenarios").mkdir(parents=True)
    typo, good = ((EXAMPLES / name).read_text("utf-8") for name in ("typo.toml", "full-mailbox.toml"))
    (project / "scenarios" / "typo.toml").write_text(typo)
    (project / "mailbox.notnow.toml").write_text(good)
    (project / "pyproject.toml").write_text("[project]")  # is no scenario
    for command in (("init", "-q", "."), ("add", ".")):
        assert run("git", *command, cwd=project)[0] == 0
    code, said = run(
        *("pre-commit", "try-repo", str(ROOT), "notnow-check", "--all-files"),
        cwd=project,
        PRE_COMMIT_HOME=str(tmp_path / "home"),
    )
    assert code == 1, said
    assert "mailbox.notnow.toml: ok (smtp, 2 phases, 1 rule)" in said
    assert "scenarios/typo.toml:6: phase[0].rule[0].on: there is no moment 'rctp'" in said
    assert "pyproject.toml" not in said
