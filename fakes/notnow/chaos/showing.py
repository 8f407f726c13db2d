"""A matrix as text: the rows and columns, a legend, and the worst cells told in a sentence with their timeline."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from notnow.chaos.outcomes import Outcome
from notnow.chaos.table import Table
from notnow.page import Page, console
from notnow.units import plural

if TYPE_CHECKING:
    from rich.console import Console

SHORT: Mapping[str, tuple[str, str, str]] = {
    "delivered": ("ok", "green", "every item came through, once"),
    "refused": ("refused", "green", "refused for good, or rightly kept back"),
    "reported": ("told", "yellow", "not everything came through, and the client said so"),
    "lost": ("LOST", "bold red", "not everything came through, and the client did not say so"),
    "duplicated": ("TWICE", "bold red", "an item came through twice"),
    "hung": ("HUNG", "bold red", "the client did not end"),
    "false alarm": ("DENIED", "bold red", "everything came through, and the client denied it"),
    "unknown": ("?", "yellow", "the journal cannot tell"),
    "nothing asked": ("nothing", "yellow", "the client asked for nothing"),
    "not reached": ("-", "dim", "the client did not come to this event"),
}
SIGNS: tuple[tuple[str, str, Callable[[Outcome], object], str], ...] = (
    ("^", "bold red", lambda one: one.exposed, "in clear text, although it goes over TLS without the fault"),
    ("!", "bold red", lambda one: one.broken, "the client broke a rule of conduct"),
    ("+", "", lambda one: one.copies == "recognisable", "a second copy, which the receiver can recognise"),
)


def as_text(matrix: Table, told: Sequence[Outcome] | None = None, *, terminal: int | None = None) -> str:
    """The matrix as it is printed in a pipe, or for a terminal of this width. `told` are the cells to tell at length."""
    text = io.StringIO()
    print_matrix(matrix, told, to=console(text, terminal))
    return text.getvalue().rstrip("\n")


def print_matrix(
    matrix: Table, told: Sequence[Outcome] | None = None, *, again: str = "", to: Console | None = None
) -> None:
    """Print the matrix, to standard output unless told otherwise. `again` is the command that plays a cell again."""
    page = Page(to)
    if matrix.unsteady:
        _two_runs(page, matrix)
    page.line(f"healthy run: {matrix.first.result.sentence}, in {plural(len(matrix.first.steps), 'event')}")
    page.line()
    _table(page, matrix)
    _pairs(page, matrix.pairs)
    _left_out(page, matrix)
    for one in matrix.worst if told is None else told:
        _tell(page, one, again)
    page.line()
    style = "bold red" if matrix.bad else "bold green" if matrix.tested else "bold yellow"
    page.line(f"notnow: {matrix.summary}", style=style)


def _table(page: Page, matrix: Table) -> None:
    """A row for each event. On a narrow terminal it has only their ids, and then as many columns at a time as fit."""
    names, rows = matrix.grid
    room = page.console.width if page.is_terminal else 10_000
    columns = [[Text(name, "bold"), *(_mark(cells[i]) for _, cells in rows)] for i, name in enumerate(names)]
    heads = [Text(""), *(Text(f"{step.id:<12} {step.said}") for step, _ in rows)]
    if _width(heads, *columns) > room:
        heads = [Text(""), *(Text(step.id) for step, _ in rows)]
    while columns:
        count = next((n for n in range(len(columns), 1, -1) if _width(heads, *columns[:n]) <= room), 1)
        for line in zip(heads, *columns[:count], strict=True):
            page.line(_aligned(line, [_width(column) for column in (heads, *columns[:count])]))
        page.line()
        columns = columns[count:]
    _legend(page, matrix.outcomes)


def _width(*columns: Sequence[Text]) -> int:
    """The width of these columns side by side, with two spaces between them."""
    return sum(max(map(len, column)) for column in columns) + 2 * (len(columns) - 1)


def _aligned(cells: Sequence[Text], widths: Sequence[int]) -> Text:
    padded = [cell + Text(" " * (width - len(cell))) for cell, width in zip(cells, widths, strict=True)]
    line = Text("  ").join(padded)
    line.rstrip()
    return line


def mark(one: Outcome) -> str:
    """A cell in a word and signs: `ok!+`."""
    return SHORT[one.word][0] + "".join(sign for sign, _, holds, _ in SIGNS if holds(one))


def _mark(one: Outcome | None) -> Text:
    if one is None:
        return Text("")
    return Text(mark(one), "bold red" if one.bad else SHORT[one.word][1])


def _legend(page: Page, outcomes: Sequence[Outcome]) -> None:
    for word, (short, style, about) in SHORT.items():
        if any(one.word == word for one in outcomes):
            page.columns([[Text(f"{short:<8}", style), f"{word}: {about}"]], ["", ""])
    for sign, style, holds, about in SIGNS:
        if any(map(holds, outcomes)):
            page.columns([[Text(f"{sign:<8}", style), about]], ["", ""])


def _pairs(page: Page, outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        return
    page.line()
    counts = {word: sum(one.word == word for one in outcomes) for word in SHORT}
    told = ", ".join(f"{n} {word}" for word, n in counts.items() if n)
    page.line(f"{plural(len(outcomes), 'pair')} of faults: {told}")


def _left_out(page: Page, matrix: Table) -> None:
    if matrix.left_out or matrix.undone:
        page.line()
    for reason, count in matrix.left_out.items():
        page.line(f"left out: {plural(count, 'cell')}: {reason}", style="dim")
    if matrix.undone:
        page.line(
            f"not run: {plural(matrix.undone, 'cell')}, because the budget was used up or the sweep was stopped",
            style="yellow",
        )


def _tell(page: Page, one: Outcome, again: str) -> None:
    page.line()
    page.heading(f"{one.cell.id}: {one.cell.in_words}")
    page.line(one.sentence, style="bold red" if one.bad else "", indent=2)
    if one.exposed:
        page.line("an item went in clear text, although it goes over TLS without the fault", indent=2)
    if one.broken:
        page.line(f"broke {', '.join(one.broken)}; `notnow conduct {one.broken[0]}` explains it", indent=2)
    if one.copies == "not recognisable":
        page.line(
            "the client could not avoid the second copy, but the receiver cannot recognise it: the message has no "
            "Message-ID, the request no Idempotency-Key",
            indent=2,
        )
    for line in one.story.splitlines():
        page.line(line, indent=2)
    for line in one.output.splitlines():
        page.line(f"client: {line}", indent=2, style="dim")
    if again:
        page.line(f"again: {again.format(cell=one.cell.id)}", indent=2)


def _two_runs(page: Page, matrix: Table) -> None:
    page.line(
        "The client did not do the same in its two healthy runs, so a cell may meet another event than it says:",
        style="yellow",
    )
    for name, found in (("first", matrix.first), ("second", matrix.second)):
        page.line(f"{name}: {' '.join(step.moment for step in found.steps)}", indent=2)
    page.line()
