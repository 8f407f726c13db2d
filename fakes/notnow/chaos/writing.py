"""A matrix for other programs: JSON, JUnit XML, Markdown, HTML, and the scenarios of the cells that went wrong."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import TextIO

from notnow._version import __version__
from notnow.chaos.outcomes import Outcome
from notnow.chaos.showing import SHORT, mark
from notnow.chaos.table import Table
from notnow.terminal import safe, safe_lines

TOLD = 50  # most bad cells in the HTML file, each with its timeline


def write_json(matrix: Table, to: TextIO) -> None:
    to.write(json.dumps({"notnow": __version__, **matrix.as_dict()}, indent=2) + "\n")


def save(matrix: Table, folder: Path) -> list[Path]:
    """Write the scenario of each cell that went wrong to this directory."""
    written = []
    for one in matrix.bad:
        file = folder / f"{re.sub(r'[^a-z0-9-]+', '-', one.cell.id)}.toml"
        found = one.word + (f", broke {', '.join(one.broken)}" if one.broken else "")
        file.write_text(f"# found by notnow sweep: {found}\n{one.cell.toml}", "utf-8")
        written.append(file)
    return written


def junit(matrix: Table) -> str:
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


def markdown(matrix: Table) -> str:
    """The matrix as Markdown, with the worst cells."""
    lines = [f"### notnow sweep {matrix.base.protocol}: {matrix.summary}", ""]
    names, rows = matrix.grid
    lines += [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for step, cells in rows:
        marks = " | ".join("" if one is None else mark(one) for one in cells)
        lines.append(f"| `{_cell(f'{step.id} {step.said}')}` | {marks} |")
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


def html(matrix: Table) -> str:
    """The matrix as one self-contained HTML file."""
    from notnow.look.rendering import render

    names, rows = matrix.grid
    return render(
        "sweep.html",
        version=__version__,
        matrix=matrix,
        names=names,
        rows=[(step, [None if one is None else (one, mark(one)) for one in cells]) for step, cells in rows],
        short=SHORT,
        told=matrix.bad[:TOLD],
    )


def _cell(text: str) -> str:
    return safe(text).replace("|", "\\|").replace("`", "'")


def _plain(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|])", r"\\\1", safe(text))


def _fenced(text: str) -> list[str]:
    return [safe(line).replace("```", "'''") for line in text.splitlines()]
