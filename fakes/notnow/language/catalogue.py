"""Finds scenarios: built-in ones by name, the user's by path or in directories that the user gives.

A name without a suffix is the catalogue's, `smtp/overload`; anything that ends in `.toml` is a file.
"""

from __future__ import annotations

import contextlib
import fnmatch
import re
import stat
import tomllib
import warnings
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from notnow import protocols
from notnow.errors import Problem, ScenarioError, ScenarioWarning, unknown

if TYPE_CHECKING:
    from notnow.language.scenario import Scenario

SUFFIX = ".toml"
_TOLD: dict[str, dict[Any, Any]] = {}  # for each file, the registry with which `warnings` shows a warning once
_NAME = re.compile(r"[\w-]+(?:/[\w-]+)*")


class Entry(NamedTuple):
    """The entry of a scenario in a list."""

    name: str
    protocol: str
    summary: str
    knobs: Mapping[str, Any]

    @classmethod
    def of(cls, scenario: Scenario) -> Entry:
        return cls(scenario.name, scenario.protocol, scenario.summary, scenario.knobs)

    def as_dict(self) -> dict[str, Any]:
        return {"name": self.name, "protocol": self.protocol, "summary": self.summary, "params": dict(self.knobs)}


@lru_cache(maxsize=1)
def builtin() -> Path:
    """The directory of the built-in scenarios: in the wheel, or in the checkout of an editable install."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "scenarios"
    return shipped if shipped.is_dir() else package.parents[1] / "scenarios"


def _directories(search_paths: Iterable[str | Path]) -> list[Path]:
    found = [Path(directory) for directory in search_paths]
    for directory in found:
        if not directory.is_dir():
            raise ScenarioError(
                [Problem(f"there is no directory {str(directory)!r}", allowed="a directory of scenarios")]
            )
    return [*found, builtin()]


def files(search_paths: Iterable[str | Path] = ()) -> dict[str, Path]:
    """The files of the scenarios in `search_paths` and built in, by the names of the scenarios."""
    found: dict[str, Path] = {}
    for directory in _directories(search_paths):
        for file in sorted(directory.rglob(f"*{SUFFIX}")):
            found.setdefault(file.relative_to(directory).with_suffix("").as_posix(), file)
    order = {protocol: i for i, protocol in enumerate(protocols.NAMES)}
    return dict(sorted(found.items(), key=lambda item: (order.get(item[0].split("/")[0], 99), item[0])))


def names(pattern: str = "*", search_paths: Iterable[str | Path] = ()) -> list[str]:
    """The names of the scenarios that match a glob, in `search_paths` and built in."""
    return [name for name in files(search_paths) if fnmatch.fnmatchcase(name, pattern)]


def entry(name: str, file: Path) -> Entry:
    """The entry of the scenario in a file. Raises ScenarioError if it is invalid.

    A built-in file is read and not checked: the checks of all of them take four times as long as the reading.
    """
    if file.is_relative_to(builtin()):
        with contextlib.suppress(ValueError, KeyError):  # a new one with a mistake: `load` says which
            raw = tomllib.loads(file.read_text("utf-8"))
            return Entry(name, raw["protocol"], raw["summary"], raw.get("params", {}))
    checked = _load(file, name=name)
    return Entry.of(checked)._replace(name=name)


def is_pattern(name: str) -> bool:
    """True if the name is a glob such as `smtp/*`."""
    return any(c in name for c in "*?[")


def locate(name: str, search_paths: Iterable[str | Path] = (), relative_to: Iterable[Path] = ()) -> Path:
    """The file of a scenario. A relative `.toml` path is looked for in `relative_to`, then in the current directory.

    Raises ScenarioError that names what there is.
    """
    return _located(name, search_paths, relative_to)[0]


def _located(name: str, search_paths: Iterable[str | Path], relative_to: Iterable[Path]) -> tuple[Path, int]:
    """See `locate`; and when the file was changed, in nanoseconds."""
    if name.endswith(SUFFIX):
        places = [Path(name)] if Path(name).is_absolute() else [d / name for d in (*relative_to, Path.cwd())]
        for file in places:
            if (changed := _changed(file)) is not None:
                return file, changed
        if any(map(_is_directory, places)):
            raise ScenarioError(
                [Problem(f"{name!r} is a directory", allowed=f"a file of a scenario, {name}/NAME.toml")]
            )
        tried = " or ".join(dict.fromkeys(str(p.parent) for p in places))
        raise ScenarioError([Problem(f"there is no scenario file {name!r}", allowed=f"a file in {tried}")])
    if _NAME.fullmatch(name):  # without listing every directory
        for directory in _directories(search_paths):
            file = _file(directory, name)
            if (changed := _changed(file)) is not None:
                return file, changed
    found = files(search_paths)
    if name in found:
        return found[name], found[name].stat().st_mtime_ns
    problem = unknown("scenario", name, found)
    hint = "see `notnow list`; a file of your own ends in .toml"
    if _is_directory(Path(name)):
        problem = problem._replace(found=f"{name!r} is a directory, and no scenario")
    short = next((n for n in found if n.partition("/")[2] == name), None)
    raise ScenarioError([Problem(problem.found, allowed=hint, nearest=short or problem.nearest)])


@lru_cache(maxsize=256)
def _file(directory: Path, name: str) -> Path:
    """The path of a scenario, made once: to make one costs more than to look whether there is a file."""
    return directory / f"{name}{SUFFIX}"


def _changed(path: Path) -> int | None:
    """When a file was changed, in nanoseconds; None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # OSError also where the name is longer than file names are; ValueError: a NUL in it
        return None
    return found.st_mtime_ns if stat.S_ISREG(found.st_mode) else None


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # ValueError: a NUL in the path
        return False


def scenario(
    name: str, /, *, search_paths: Iterable[str | Path] = (), relative_to: Iterable[Path] = (), **knobs: Any
) -> Scenario:
    """A scenario by name or by path, with values for its knobs.

    `scenario("smtp/overload", outage="2s")`. Raises ScenarioError with every problem in it.
    """
    file, changed = _located(name, search_paths, relative_to)
    key = tuple((k, type(v), v) for k, v in sorted(knobs.items()))  # the type: 1 == True == 1.0
    try:
        return _cached(name, file, changed, key)
    except TypeError:  # a knob whose value cannot be hashed, such as a list
        return _load(file, name=name, knobs=knobs)


@cache
def healthy(protocol: str) -> Scenario:
    """The server that plays nothing. Nobody writes its file, so it is looked at once: most fakes of tests begin so."""
    return scenario(f"{protocol}/healthy")


def tell(scenario: Scenario, given: Iterable[str] = ()) -> None:
    """Issue a Python warning for each warning of a scenario file, at its line.

    `given`: the server options that replace those of the file; warnings about them are left out.
    """
    for problem in scenario.warnings if scenario.file else ():
        if problem.about not in given:
            words = str(problem._replace(file="", warning=False))
            warnings.warn_explicit(
                words, ScenarioWarning, problem.file, problem.line or 1, registry=_TOLD.setdefault(problem.file, {})
            )


@lru_cache(maxsize=256)
def _cached(name: str, file: Path, _changed: int, knobs: tuple[tuple[str, type, Any], ...]) -> Scenario:
    return _load(file, name=name, knobs={k: v for k, _, v in knobs})


def _load(file: Path, **options: Any) -> Scenario:
    from notnow.language import loading  # a third of a list's time: it imports the whole language

    return loading.load(file, **options)
