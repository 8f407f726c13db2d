"""Templates: they escape whatever they print, and miss nothing in silence."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from importlib.resources import files

import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from notnow.look import rendering


def filled(template: str, text: object = "") -> str:
    """A template given as text, with one value."""
    return rendering._environment().from_string(template).render(text=text)


def test_what_is_printed_is_escaped_and_made_safe() -> None:
    assert filled("<p>{{ text }}</p>", "<b>\x1b[31m\u202e&") == r"<p>&lt;b&gt;\x1b[31m\u202e&amp;</p>"


def test_words_that_run_from_right_to_left_are_isolated() -> None:
    assert filled("{{ text }}", "a שלום <b>") == "a <bdi>שלום</bdi> &lt;b&gt;"
    assert filled("{{ text|plain }}", "a שלום <b>") == "a \u2068שלום\u2069 &lt;b&gt;"


def test_an_attribute_cannot_be_left() -> None:
    assert filled('<a title="{{ text|plain }}">', '" onclick="x') == '<a title="&#34; onclick=&#34;x">'


def test_numbers_and_markup_stay_as_they_are() -> None:
    assert (filled("{{ text }}", 3), filled("{{ text }}", Markup("<b>x</b>"))) == ("3", "<b>x</b>")


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'gone' is undefined"):
        filled("{{ gone }}")


def test_text_in_attributes_and_titles_is_plain() -> None:
    """In an attribute, a `bdi` element would be text."""
    for file in files("notnow.look").joinpath("templates").iterdir():
        source = file.read_text("utf-8")
        texts = re.findall(r'(?:title|aria-label)="([^"{]*(?:\{\{.*?\}\}[^"{]*)*)"', source)
        printed = [one for text in texts for one in re.findall(r"\{\{(.*?)\}\}", text)]
        assert [one for one in printed if not re.search(r"\|(plain|plural\(.*\)|duration) $|^ \{", one)] == [], file


def test_the_policy_of_a_report_allows_its_stylesheet_and_nothing_else() -> None:
    style = filled("<style>{{ stylesheet() }}</style>").removeprefix("<style>").removesuffix("</style>")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rendering.policy() == f"default-src 'none'; style-src 'sha256-{digest}'"


def test_jinja_is_imported_only_for_a_page() -> None:
    code = "import atexit, sys; from notnow.cli import main; atexit.register(lambda: print('jinja2' in sys.modules)); main()"
    done = subprocess.run([sys.executable, "-c", code, "list"], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1:] == ["False"], done.stderr
