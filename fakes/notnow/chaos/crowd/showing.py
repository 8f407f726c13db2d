"""Storms as text: a table with a column for each policy, and a picture of the load for each."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from string import ascii_uppercase
from typing import TYPE_CHECKING

from rich.text import Text

from notnow.chaos.crowd.figures import Storm
from notnow.chaos.crowd.picture import HEIGHT, Picture, picture, span
from notnow.page import Page, console
from notnow.units import plural, show

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 72  # columns of a picture, with its axis
BAD = "bold red"


def letters(count: int) -> list[str]:
    """The names of columns: A, B, … Z, A1, B1, …"""
    return [ascii_uppercase[n % 26] + (str(n // 26) if n >= 26 else "") for n in range(count)]


def _after(time: float | None) -> str:
    return "not yet" if time is None else show(time)


ROWS: Mapping[str, Callable[[Storm], str]] = {
    "through": lambda one: f"{one.through} of {one.items}",
    "gave up": lambda one: str(one.gave_up),
    "still waiting": lambda one: str(one.waiting),
    "attempts an item": lambda one: f"{one.amplification:.2f}",
    "most in a second": lambda one: str(one.peak),
    "… after recovery": lambda one: str(one.peak_after),
    "timed out": lambda one: str(one.abandoned),
    "refused as busy": lambda one: str(one.busy),
    "held by clients": lambda one: str(one.held),
    "goodput": lambda one: f"{one.goodput:.1f}/s",
    "an item took": lambda one: show(one.took) if one.through else "-",
    "at most": lambda one: show(one.longest) if one.through else "-",
    "95 % drained after": lambda one: _after(one.mostly_drained),
    "drained after": lambda one: _after(one.drained),
    "stays down": lambda one: "-" if one.recovered is None else "YES" if one.stays_down else "no",
}
WARNED: Mapping[str, Callable[[Storm], bool]] = {
    "through": lambda one: not one.through,
    "95 % drained after": lambda one: one.mostly_drained is None,
    "drained after": lambda one: one.drained is None,
    "stays down": lambda one: one.stays_down,
}


def warned(label: str, one: Storm) -> bool:
    """True if this figure is a bad one."""
    return label in WARNED and WARNED[label](one)


def as_text(storms: Sequence[Storm], *, terminal: int | None = None) -> str:
    """Storms as they are printed in a pipe, or for a terminal of this width."""
    text = io.StringIO()
    print_storms(storms, to=console(text, terminal))
    return text.getvalue().rstrip("\n")


def print_storms(storms: Sequence[Storm], title: str = "", *, to: Console | None = None) -> None:
    """Print the table and the pictures, to standard output unless told otherwise."""
    page = Page(to)
    if title:
        page.line(title)
        page.line()
    names = letters(len(storms))
    for name, one in zip(names, storms, strict=True):
        page.columns([[Text(name, "bold"), one.policy]], ["", ""])
    page.line()
    _table(page, names, storms)
    end = span(storms)
    for name, one in zip(names, storms, strict=True):
        page.line()
        _picture(page, name, one, picture(one, end, _room(page)))
    page.line()
    page.line("█ items through   ░ other attempts   ─ capacity   │ recovery", style="dim")
    for name, one in zip(names, storms, strict=True):
        for line in remarks(one):
            page.line(f"{name}: {line}", style=BAD if one.stays_down else "yellow")


def remarks(one: Storm) -> list[str]:
    """What the figures alone do not say."""
    found = []
    if one.stays_down:
        found.append(
            "the server stays down although its cause has gone: attempts keep it busy with work that nobody waits for"
            if one.abandoned > one.busy
            else "the server stays down although its cause has gone: attempts keep it busy"
        )
    if one.cut:
        found.append(
            f"stopped after {one.attempts} attempts, at {show(one.ended)}: clients of this policy come too often to go on"
        )
    if not one.items:
        found.append(f"nothing was simulated: no item came until {show(one.ended)}")
    if one.recovered is None:
        found.append(f"the scenario still refused clients when the simulation ended, at {show(one.ended)}")
    if one.waiting and not one.gave_up and one.drained is None and not one.cut:
        found.append(f"its clients never gave up: {plural(one.waiting, 'item')} still waited at {show(one.ended)}")
    return found


def _table(page: Page, names: Sequence[str], storms: Sequence[Storm]) -> None:
    """A row for each figure. Columns that do not fit on a terminal go below."""
    room = page.console.width if page.is_terminal else 10_000
    head = max(len(name) for name in ROWS)
    cells = [[of(one) for of in ROWS.values()] for one in storms]
    widths = [max(len(name), *map(len, column)) for name, column in zip(names, cells, strict=True)]
    start = 0
    while start < len(storms):
        end = start + 1
        while end < len(storms) and head + sum(width + 2 for width in widths[start : end + 1]) <= room:
            end += 1
        _rows(page, head, names[start:end], storms[start:end], cells[start:end], widths[start:end])
        start = end


def _rows(
    page: Page, head: int, names: Sequence[str], storms: Sequence[Storm], cells: Sequence[list[str]], widths: list[int]
) -> None:
    line = Text(" " * head)
    for name, width in zip(names, widths, strict=True):
        line.append("  ").append(name.rjust(width), "bold")
    page.line(line)
    for number, label in enumerate(ROWS):
        line = Text(label.ljust(head))
        for one, column, width in zip(storms, cells, widths, strict=True):
            line.append("  ").append(column[number].rjust(width), BAD if warned(label, one) else "")
        page.line(line)


def _room(page: Page) -> int:
    return min(WIDTH, page.console.width) if page.is_terminal else WIDTH


def _picture(page: Page, name: str, one: Storm, drawn: Picture) -> None:
    page.line(Text(name, "bold").append(f"  {one.policy}", "not bold"))
    for row in range(HEIGHT):
        line = Text(drawn.labels[row].rjust(drawn.margin) + " ")
        for char in drawn.rows[row]:
            line.append(char, STYLES.get(char, ""))
        line.rstrip()
        page.line(line)
    page.line(" " * (drawn.margin + 1) + drawn.axis, style="dim")


STYLES = {"█": "green", "░": "red", "─": "cyan", "│": "bold"}
