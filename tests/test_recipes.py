"""The recipes of docs/how-to/recipes.md: tests in other languages, run as a reader would run them, that drive a control API."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import programs
import pytest

import control_api

RECIPES = Path(__file__).parent / "examples" / "control"
JAVA = Path("/usr/share/java")  # where Debian's packages have their jars
JACKSON = [JAVA / f"jackson-{part}.jar" for part in ("core", "annotations", "databind")]
JUNIT = JAVA / "junit-platform-console-standalone.jar"


class Recipe:
    """Runs a recipe in a copy of its folder. `url` is that of the control API, as `notnow serve --control` prints it."""

    def __init__(self, url: str, here: Path) -> None:
        self.url, self.here = url, here

    def run(self, recipe: str, *command: str, careless: tuple[str, str, str] | None = None, **more: str) -> str:
        """What it prints. `careless` is a file, a passage and its replacement. It fails if that is given, or else passes."""
        shutil.copytree(RECIPES / recipe, self.here, dirs_exist_ok=True)
        if careless is not None:
            file, passage, instead = careless
            text = (self.here / file).read_text("utf-8")
            assert passage in text
            (self.here / file).write_text(text.replace(passage, instead), "utf-8")
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], more.pop("PATH", "")])
        env = {**os.environ, "PATH": path, "NOTNOW_CONTROL": self.url, **more}
        done = subprocess.run(command, cwd=self.here, env=env, capture_output=True, text=True, timeout=120)
        assert (done.returncode == 0) == (careless is None), done.stdout + done.stderr
        return done.stdout

    def need_modules(self, *names: str) -> None:
        """Skip the test if Node or one of these modules is not installed. An `import` looks for them in the folder."""
        programs.need("node", "nodejs")
        for name in names:
            programs.need_module(name)
        if names:
            place = next(p for p in programs.NODE_PATH.split(os.pathsep) if Path(p, names[0]).is_dir())
            (self.here / "node_modules").symlink_to(place)


@pytest.fixture
def recipe(tmp_path: Path) -> Iterator[Recipe]:
    here = tmp_path / "here"
    here.mkdir()
    with control_api.running() as api:
        yield Recipe(api.url, here)
        assert api.fleet.members() == []  # a recipe stops the servers that it has started


def test_junit(recipe: Recipe) -> None:
    programs.need("javac", "default-jdk-headless")
    programs.need_place(JUNIT, "junit5")
    programs.need_place(JACKSON[-1], "libjackson2-databind-java")
    jars = os.pathsep.join(map(str, [JUNIT, *JACKSON]))
    assert "1 tests successful" in recipe.run("java", "sh", "-e", "run.sh", JARS=jars, JUNIT=str(JUNIT))


def test_node(recipe: Recipe) -> None:
    recipe.need_modules("nodemailer")
    assert "# pass 4\n" in recipe.run("node", "node", "--test", "--test-reporter=tap")


def test_a_careless_client_fails_and_the_verdict_says_why(recipe: Recipe) -> None:
    recipe.need_modules("nodemailer")
    swallows = ("mailer.mjs", "await sleep(minutes)", "return")
    said = recipe.run(
        "node", "node", "--test", "--test-reporter=tap", "--test-name-pattern=/overload/", careless=swallows
    )
    assert "lost: 1 item" in said
    assert "broken  smtp.tries-again (should)" in said


def test_robot_framework(recipe: Recipe) -> None:
    programs.need("curl", "curl")
    assert "1 test, 1 passed, 0 failed" in recipe.run("robot", sys.executable, "-m", "robot", "upload.robot")


def test_a_generated_client_in_python(recipe: Recipe) -> None:
    programs.need("openapi-python-client", "openapi-python-client")
    home = Path(str(shutil.which("openapi-python-client"))).resolve().parent  # its ruff is there
    said = recipe.run("python", "sh", "-e", "run.sh", PATH=str(home))
    assert said.splitlines()[-2:] == ["not now: 421", "delivered: well behaved"]
    assert len([*(recipe.here / "client").rglob("api/*/*.py")]) > 25  # a module for each call


def test_a_generated_client_in_typescript(recipe: Recipe) -> None:
    recipe.need_modules("openapi-typescript", "typescript", "openapi-fetch", "@types/node")
    assert "# pass 1\n" in recipe.run("typescript", "sh", "-e", "run.sh")
