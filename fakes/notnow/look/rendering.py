"""Templates, filled. Whatever they print is escaped, with control characters shown and right-to-left words isolated."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from notnow.terminal import by_direction, isolated, safe_lines
from notnow.units import plural, show, show_size, times


def render(template: str, **values: object) -> str:
    """A template of `look/templates`, filled with these values. A value that it lacks raises UndefinedError."""
    return _environment().get_template(template).render(values)


def render_text(template: str, **values: object) -> str:
    """A template of plain text, such as a script: nothing is escaped, so the values must not come from clients."""
    return _environment().overlay(autoescape=False, finalize=None).get_template(template).render(values)


def asset(name: str) -> bytes:
    """A file of `look/assets`."""
    return files("notnow.look").joinpath("assets", name).read_bytes()


def assets() -> list[str]:
    """The names of these files."""
    return sorted(file.name for file in files("notnow.look").joinpath("assets").iterdir())


@cache
def policy() -> str:
    """The Content-Security-Policy of a page that holds the stylesheet and needs nothing else: no script runs in it."""
    digest = base64.b64encode(hashlib.sha256(asset("look.css")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("notnow.look"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        plain=plain,
        percent=_percent,
        pixels="{:g}".format,
        duration=_duration,
        size=show_size,
        times=times,
        plural=plural,
    )
    made.globals.update(stylesheet=lambda: Markup(asset("look.css").decode()), policy=policy)
    return made


def said(text: str) -> Markup:
    """A text that a client may have written, as markup: words that run from right to left are in `bdi` elements."""
    pieces = by_direction(safe_lines(text))
    return Markup("").join(Markup("<bdi>{}</bdi>").format(piece) if turns else piece for piece, turns in pieces)


def plain(text: object) -> Markup:
    """The same for attributes and titles, which hold no elements."""
    return escape(isolated(safe_lines(str(text))))


def _finalize(value: Any) -> Any:
    """Every value that a template prints passes here."""
    return said(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _percent(value: float) -> str:
    return f"{value:.2f}%"


def _duration(seconds: float) -> str:
    return show(max(0.0, seconds))
