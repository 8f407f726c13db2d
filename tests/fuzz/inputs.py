"""The inputs that are kept: a small corpus for each target, and every input that has shown a fault."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
CORPUS, FINDINGS = HERE / "corpus", HERE / "findings"
TARGETS = tuple(sorted(file.stem for file in (HERE / "targets").glob("[a-z]*.py")))
LONGEST = 4_096  # bytes of an input
Target = Callable[[bytes], None]


def target(name: str) -> Target:
    found: Target = import_module(f"tests.fuzz.targets.{name}").one
    return found


def kept(name: str) -> list[Path]:
    """The corpus of a target, and its findings."""
    folders = (CORPUS / name, FINDINGS / name)
    return sorted(file for folder in folders if folder.is_dir() for file in folder.iterdir())


def words(name: str) -> list[bytes]:
    """The words of a target's dictionary, one a line in Python's escapes; libFuzzer reads the same file."""
    file = HERE / "words" / f"{name}.txt"
    lines = file.read_text("ascii").splitlines() if file.exists() else []
    quoted = [line.partition('"')[2].rpartition('"')[0] for line in lines if line.startswith('"')]
    return [one.encode("ascii").decode("unicode_escape").encode("latin-1") for one in quoted]
