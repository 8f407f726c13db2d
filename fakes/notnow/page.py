"""Text for readers: coloured and wrapped on a terminal, plain and unwrapped in a pipe.

rich honours NO_COLOR, FORCE_COLOR and TERM.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from notnow.terminal import safe_lines

Cell = str | Text


def console(to: TextIO | None = None, terminal: int | None = None) -> Console:
    """Standard output, or another stream: as for a terminal of the width `terminal`, if given.

    Printed text is never interpreted as markup.
    """
    forced = None if terminal is None else True
    return Console(file=to, width=terminal, force_terminal=forced, highlight=False, markup=False, emoji=False)


class Page:
    """Writes headings, lines and aligned columns."""

    def __init__(self, to: Console | None = None) -> None:
        self.console = to or console()
        self.is_terminal = self.console.is_terminal

    def heading(self, text: str, indent: int = 0) -> None:
        self.line(Text(text, style="bold"), indent=indent)

    def line(self, text: Cell = "", *, indent: int = 0, hang: int = 0, style: str = "") -> None:
        """A line at `indent`; a terminal indents the wrapped part by `hang` more."""
        whole = _text(text, style)
        if not self.is_terminal:
            self._plain(" " * indent + whole.plain)
        elif hang:
            self._hanging(whole, indent, hang)
        else:
            self._print(whole, indent)

    def columns(self, rows: Sequence[Sequence[Cell]], styles: Sequence[str], *, indent: int = 0) -> None:
        """Aligned columns; the last one takes the rest of the width."""
        table = [[_text(cell) for cell in row] for row in rows]
        if self.is_terminal:
            self._print(_grid(table, styles), indent)
            return
        widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
        for row in table:
            cells = [cell.plain.ljust(width) for cell, width in zip(row, widths, strict=True)]
            self._plain((" " * indent + "  ".join(cells)).rstrip())

    def _hanging(self, text: Text, indent: int, hang: int) -> None:
        grid = Table.grid()
        grid.add_column(width=hang, no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row(text[:hang], text[hang:])
        self._print(grid, indent)

    def _print(self, what: RenderableType, indent: int) -> None:
        self.console.print(Padding(what, (0, 0, 0, indent)) if indent else what)

    def _plain(self, text: str) -> None:
        self.console.print(Text(text), soft_wrap=True)


def _text(cell: Cell, style: str = "") -> Text:
    """The text to print: never markup, and harmless to a terminal."""
    if isinstance(cell, str):
        return Text(safe_lines(cell), style=style)
    if cell.plain == safe_lines(cell.plain):
        return cell
    letters = cell.divide(range(1, len(cell)))  # so that a replacement keeps the style
    return Text("").join(Text(safe_lines(piece.plain), style=piece.style, spans=piece.spans) for piece in letters)


def _grid(rows: Sequence[Sequence[Text]], styles: Sequence[str]) -> Table:
    grid = Table.grid(padding=(0, 2))
    for i, style in enumerate(styles):
        grid.add_column(style=style, no_wrap=i < len(styles) - 1, overflow="fold")
    for row in rows:
        grid.add_row(*row)
    return grid
