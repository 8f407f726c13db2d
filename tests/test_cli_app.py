"""`--app module:attribute`: what is imported, and what is said where it cannot be."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from notnow.cli._app import load
from notnow.errors import ScenarioError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


def said(text: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load(text)
    return str(caught.value)


def test_an_app_comes_from_the_current_directory(here: Path) -> None:
    (here / "mysite").mkdir()
    (here / "mysite" / "asgi.py").write_text("class made:\n    app = print\n")
    assert load("mysite.asgi:made.app") is print


@pytest.mark.parametrize("text", ["mysite", "mysite:", ":app", "", "my-site:app", "mysite:app()", "mysite:a:b"])
def test_a_word_that_names_no_app(text: str) -> None:
    assert f"--app: {text!r}; allowed: MODULE:ATTRIBUTE, such as main:app" in said(text)


def test_a_file_in_place_of_a_module(here: Path) -> None:
    assert said("my/site.py:app").endswith("did you mean 'my.site:app'?")


def test_a_module_that_is_not_there(here: Path) -> None:
    (here / "mysite.py").touch()
    told = said("mysit:app")
    assert told.startswith("--app: there is no module 'mysit'; allowed: a module in ")
    assert told.endswith("did you mean 'mysite'?")


def test_an_attribute_that_is_not_there(here: Path) -> None:
    (here / "mysite.py").write_text("application = print\nname = ''\n")
    assert said("mysite:app") == (
        "--app: there is no 'app' in mysite; allowed: a name of mysite, which has application"
    )
    assert said("mysite:aplication").endswith("did you mean 'application'?")


def test_a_module_that_fails(here: Path) -> None:
    (here / "mysite.py").write_text("\nimport no_such_module\n")
    assert said("mysite:app") == (
        "--app: mysite cannot be imported: ModuleNotFoundError: No module named 'no_such_module' (mysite.py:2)"
    )
    (here / "script.py").write_text("raise SystemExit(3)\n")
    assert said("script:app") == "--app: script cannot be imported: SystemExit: 3 (script.py:1)"
    (here / "broken.py").write_text("def (\n")
    assert said("broken:app").startswith("--app: broken cannot be imported: SyntaxError: ")
