"""A matrix for other programs: JSON, JUnit XML, Markdown, HTML, and the scenarios of the cells that went wrong."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TextIO

from notnow._version import __version__
from notnow.chaos import faults
from notnow.chaos.matrix import Matrix
from notnow.chaos.outcomes import Outcome
from notnow.chaos.showing import SHORT, mark
from notnow.terminal import safe, safe_lines
from notnow.units import plural

TOLD = 50  # most bad cells in the HTML file, each with its timeline


def write_json(matrix: Matrix, to: TextIO) -> None:
    to.write(json.dumps({"notnow": __version__, **matrix.as_dict()}, indent=2) + "\n")


def save(matrix: Matrix, folder: Path) -> list[Path]:
    """Write the scenario of each cell that went wrong to this directory."""
    written = []
    for one in matrix.bad:
        file = folder / f"{re.sub(r'[^a-z0-9-]+', '-', one.cell.id)}.toml"
        found = f"{one.word}{f', broke {chr(44).join(one.broken)}' if one.broken else ''}"
        file.write_text(f"# found by notnow sweep: {found}\n{one.cell.toml}", "utf-8")
        written.append(file)
    return written


def junit(matrix: Matrix) -> str:
    """JUnit XML with a test case for each cell. One whose fault did not fire is skipped."""
    from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

    suite = TestSuite(f"notnow sweep {matrix.base.protocol}")
    for one in matrix.outcomes:
        case = TestCase(safe_lines(one.cell.id), "notnow.sweep", round(one.took, 3))
        if one.bad:
            failure = Failure(safe_lines(_sentence(one)), one.word)
            failure.text = safe_lines(one.story)
            case.result = [failure]
        elif one.word == "not reached":
            case.result = [Skipped(one.sentence)]
        suite.add_testcase(case)
    xml, text = JUnitXml(), io.BytesIO()
    xml.add_testsuite(suite)
    xml.write(text, pretty=True)
    return text.getvalue().decode("utf-8")


def _sentence(one: Outcome) -> str:
    broke = f"; broke {', '.join(one.broken)}" if one.broken else ""
    return f"{one.cell.in_words}: {one.sentence}{broke}"


def markdown(matrix: Matrix) -> str:
    """The matrix as Markdown, with the worst cells."""
    lines = [f"### notnow sweep {matrix.base.protocol}: {matrix.summary}", ""]
    names, rows = table(matrix)
    lines += [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    lines += [f"| `{_cell(head)}` | {' | '.join(marks)} |" for head, marks in rows]
    lines.append("")
    for one in matrix.worst:
        lines += [
            f"**`{_cell(one.cell.id)}`**: {_plain(_sentence(one))}",
            "",
            "```text",
            *_fenced(one.story),
            "```",
            "",
        ]
    return "\n".join(lines) + "\n"


def table(matrix: Matrix) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """The columns' names, and for each event its name and the marks of its cells."""
    cells = {
        (one.cell.hits[0].step.id, one.cell.hits[0].fault.name): one
        for one in matrix.outcomes
        if len(one.cell.hits) == 1
    }
    names = [name for name in faults.names(matrix.base.protocol) if any(name == fault for _, fault in cells)]
    rows = []
    for step in matrix.first.steps:
        found = [cells.get((step.id, name)) for name in names]
        if any(found):
            rows.append((f"{step.id} {step.said}", [mark(one) if one is not None else "" for one in found]))
    return names, rows


def html(matrix: Matrix) -> str:
    """The matrix as one self-contained HTML file."""
    from notnow.look.rendering import render

    names, _ = table(matrix)
    rows = []
    cells = {
        (one.cell.hits[0].step.id, one.cell.hits[0].fault.name): one
        for one in matrix.outcomes
        if len(one.cell.hits) == 1
    }
    for step in matrix.first.steps:
        found = [cells.get((step.id, name)) for name in names]
        if any(found):
            rows.append((step, [(one, mark(one)) if one is not None else None for one in found]))
    return render(
        "sweep.html", version=__version__, matrix=matrix, names=names, rows=rows, short=SHORT, told=matrix.bad[:TOLD],
        pairs=plural(sum(len(one.cell.hits) > 1 for one in matrix.outcomes), "pair"),
    )  # fmt: skip


def _cell(text: str) -> str:
    return safe(text).replace("|", "\\|").replace("`", "'")


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", safe(text))


def _fenced(text: str) -> list[str]:
    return [safe(line).replace("```", "'''") for line in text.splitlines()]
