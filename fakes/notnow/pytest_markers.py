"""The marker of the pytest plugin: the scenario of a test, and errors about useless markers.

`notnow.pytest_plugin` imports this only if a test has a marker or uses a fixture of notnow.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from notnow import protocols
from notnow.language import catalogue
from notnow.language.knobs import SERVER_OPTIONS
from notnow.servers import by_protocol

if TYPE_CHECKING:
    from notnow.chaos.cells import Cell
    from notnow.language.scenario import Scenario
    from notnow.servers.base.fake import Fake

SCOPES = ("module", "session")  # of the fakes that outlive a test
LASTING = {f"fake_{protocol}_{scope}": protocol for protocol in protocols.NAMES for scope in SCOPES}
FIXTURES: dict[str, str | None] = {
    **{f"fake_{protocol}": protocol for protocol in protocols.NAMES},
    **LASTING,
    "fake_server": None,  # of the protocol that the marker names
}
SWEEP = "sweep"  # the keyword of the marker that is neither a knob nor a server option
_ParameterSet = type(pytest.param())


class MarkerError(ValueError):
    """An invalid marker, and the reason."""


class Places:
    """The places of a run's scenarios: the user's directories, and the root of the tests."""

    def __init__(self, root: Path, directories: Sequence[Path]) -> None:
        self.root, self.directories = root, directories

    def find(self, path: Path, name: str, knobs: dict[str, Any]) -> Scenario:
        """A scenario for a test in the file `path`. Raises ScenarioError."""
        return catalogue.scenario(name, search_paths=self.directories, relative_to=[path.parent, self.root], **knobs)

    def protocol(self, path: Path, name: str) -> str:
        """The protocol of a scenario, or that part of a pattern."""
        return self.find(path, name, {}).protocol if name.endswith(".toml") else name.partition("/")[0]

    def matching(self, mark: pytest.Mark, asked: Iterable[str | None]) -> list[str]:
        """The scenarios that match the pattern of a marker. Raises MarkerError if none does."""
        pattern = name_of(mark)
        wanted = protocols.NAMES if None in (chosen := tuple(asked)) else chosen
        found = [n for n in catalogue.names(pattern, self.directories) if n.partition("/")[0] in wanted]
        if not found:
            raise MarkerError(f"no scenario matches {pattern!r}; see `notnow list`")
        known = {knob for name in found for knob in self.knobs(name)}
        if unknown := sorted(set(split(mark)[0]) - known):
            raise MarkerError(f"no scenario that matches {pattern!r} has a knob {unknown[0]!r}")
        return found

    def knobs(self, name: str) -> Iterable[str]:
        return catalogue.scenario(name, search_paths=self.directories).knobs


# ---- reading markers -----------------------------------------------------------------------------


def name_of(mark: pytest.Mark) -> str:
    """The name in a marker, which may be a pattern or a path. Raises MarkerError if there is none."""
    if len(mark.args) != 1 or not isinstance(mark.args[0], (str, Path)):
        raise MarkerError(f'takes the name of one scenario, such as "smtp/overload", not {mark.args!r}')
    return str(mark.args[0])


def split(mark: pytest.Mark) -> tuple[dict[str, Any], dict[str, Any]]:
    """The knobs of a marker, and its server options."""
    knobs = {k: v for k, v in mark.kwargs.items() if k not in SERVER_OPTIONS and k != SWEEP}
    return knobs, {k: v for k, v in mark.kwargs.items() if k in SERVER_OPTIONS}


def is_pattern(mark: pytest.Mark) -> bool:
    return any(c in name_of(mark) for c in "*?[")


def of_item(item: pytest.Item) -> list[pytest.Mark]:
    """The markers of a test, the nearest first: those of its pytest.param, its own, those of its class and module."""
    callspec = getattr(item, "callspec", None)
    own = [mark for mark in getattr(callspec, "marks", ()) if mark.name == "notnow"]
    return own + [mark for mark in item.iter_markers("notnow") if not any(mark is one for one in own)]


def nearest(places: Places, path: Path, marks: Iterable[pytest.Mark], protocol: str | None) -> pytest.Mark | None:
    """The nearest marker for a protocol, or for any if `protocol` is None."""
    for mark in marks:
        if protocol is None or fnmatchcase(protocol, places.protocol(path, name_of(mark))):
            return mark
    return None


def fixtures_of_ours(names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """The test's fixtures that read the marker, each with its protocol."""
    return ((name, FIXTURES[name]) for name in names if name in FIXTURES)


# ---- making a fake -------------------------------------------------------------------------------


def make(
    places: Places,
    path: Path,
    mark: pytest.Mark | None,
    protocol: str | None,
    chosen: str | None,
    seed: int,
    cell: Cell | None = None,
) -> Fake:
    """The fake for a marker, not started. Raises ValueError.

    `chosen` is one scenario of its pattern, `cell` the one of its sweep whose turn it is.
    """
    options: dict[str, Any] = {"seed": seed}
    scenario: Scenario | None = None
    if mark is not None:
        scenario = scenario_of(places, path, mark, chosen)
        options |= split(mark)[1]
        protocol = scenario.protocol
        if cell is not None and mark.kwargs.get(SWEEP):
            scenario = cell.scenario
    if protocol is None:
        raise MarkerError('the fixture fake_server needs a marker with the name of a scenario, such as "smtp/overload"')
    return by_protocol(protocol)(scenario, **options)


def scenario_of(places: Places, path: Path, mark: pytest.Mark, chosen: str | None = None) -> Scenario:
    """The scenario that a marker names, with its knobs; for a pattern, the `chosen` one with the knobs that it has."""
    knobs, _ = split(mark)
    if chosen is not None:
        known = places.find(path, chosen, {}).knobs
        knobs = {k: v for k, v in knobs.items() if k in known}
    return places.find(path, chosen or name_of(mark), knobs)


# ---- patterns ------------------------------------------------------------------------------------


def parametrize(metafunc: pytest.Metafunc, places: Places) -> None:
    """Run a test once for each scenario that the pattern of its marker matches. Raises ValueError."""
    marks = list(metafunc.definition.iter_markers("notnow"))
    for fixture, protocol in fixtures_of_ours(metafunc.fixturenames):
        mark = nearest(places, metafunc.definition.path, marks, protocol)
        if mark is not None and is_pattern(mark) and fixture not in LASTING:
            metafunc.parametrize(fixture, places.matching(mark, [protocol]), indirect=True)


@contextlib.contextmanager
def params_spread(metafunc: pytest.Metafunc, places: Places) -> Iterator[list[str]]:
    """While this is active, a pytest.param whose marker is a pattern becomes one param for each matching scenario.

    Yields a list for the problems found. Afterwards the marks of the test, its class and its module are restored.
    """
    wanted = [protocol for _, protocol in fixtures_of_ours(metafunc.fixturenames)]
    problems: list[str] = []
    before = [(node, list(node.own_markers)) for node in metafunc.definition.listchain()]
    try:
        for node, marks in before if wanted else ():
            node.own_markers[:] = [_spread(mark, places, wanted, problems) for mark in marks]
        yield problems
    finally:
        for node, marks in before:
            node.own_markers[:] = marks


def _spread(mark: pytest.Mark, places: Places, wanted: list[str | None], problems: list[str]) -> pytest.Mark:
    if mark.name != "parametrize" or len(mark.args) < 2:
        return mark
    names, given, *rest = mark.args
    if not any(_patterns(value) for value in (given if isinstance(given, (list, tuple)) else ())):
        return mark
    ids = mark.kwargs.get("ids")
    values: list[object] = []
    labels: list[object] = []
    for i, value in enumerate(given):
        try:
            many = _for_each(value, places, wanted, _label(value, i, ids, names))
        except ValueError as error:
            problems.append(str(error))
            many = [value]
        values += many
        labels += [ids[i] if isinstance(ids, (list, tuple)) else None] * len(many)
    kwargs = {**mark.kwargs, **({"ids": labels} if isinstance(ids, (list, tuple)) else {})}
    return pytest.mark.parametrize(names, values, *rest, **kwargs).mark


def _patterns(value: Any) -> list[pytest.Mark]:
    """The markers of a pytest.param that have a pattern."""
    marks = value.marks if isinstance(value, _ParameterSet) else ()
    return [mark for mark in map(_bare, marks) if mark.name == "notnow" and mark.args and is_pattern(mark)]


def _bare(mark: Any) -> pytest.Mark:
    """The marker that pytest stores, from the one that users write."""
    found: pytest.Mark = getattr(mark, "mark", mark)
    return found


def _for_each(value: Any, places: Places, wanted: list[str | None], label: str) -> list[object]:
    found: list[object] = [value]
    for mark in _patterns(value):
        rest = [one for one in value.marks if _bare(one) is not mark]
        found = []
        for name in places.matching(mark, wanted):
            knobs, options = split(mark)
            known = places.knobs(name)
            own = pytest.mark.notnow(name, **options, **{k: v for k, v in knobs.items() if k in known})
            found.append(pytest.param(*value.values, marks=[*rest, own], id=f"{label}-{name}"))
    return found


def _label(value: Any, i: int, ids: Any, names: str | Sequence[str]) -> str:
    """The part of pytest's id for a param that matters here."""
    if not isinstance(value, _ParameterSet):
        return ""
    if value.id is not None:
        return str(value.id)
    if isinstance(ids, (list, tuple)) and ids[i] is not None:
        return str(ids[i])
    listed = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
    words = [(ids(one) if callable(ids) else None, one, name) for one, name in zip(value.values, listed, strict=False)]
    return "-".join(
        str(said if said is not None else one if isinstance(one, (str, int, float, type(None))) else f"{name}{i}")
        for said, one, name in words
    )


# ---- what is wrong with the markers of a test ----------------------------------------------------


def check(places: Places, item: pytest.Item, seed: int) -> list[str]:
    """The invalid or useless markers of a test, as sentences."""
    try:
        return [f"@pytest.mark.notnow: {told}" for told in _check(places, item, seed)]
    except ValueError as error:
        return [f"@pytest.mark.notnow: {error}"]


def _check(places: Places, item: pytest.Item, seed: int) -> Iterator[str]:
    marks, names = of_item(item), list(getattr(item, "fixturenames", ()))
    callspec = getattr(item, "callspec", None)
    for fixture, protocol in fixtures_of_ours(names) if marks else ():
        mark = nearest(places, item.path, marks, protocol)
        chosen = callspec.params.get(fixture) if callspec is not None else None
        if fixture in LASTING:
            if mark is not None:
                check_lasting(places, item.path, fixture, mark)
        elif chosen is not None and mark is not None and not is_pattern(mark):
            yield f"{name_of(mark)!r} in pytest.param and a pattern on the test: only one of them can play: remove the other"
        elif chosen is not None or mark is None or not is_pattern(mark):
            made = make(places, item.path, mark, protocol, chosen, seed)
            if mark is not None and SWEEP in mark.kwargs:
                _check_sweep(mark.kwargs[SWEEP], made.scenario)
    yield from _doubled(places, item)
    if not asks_elsewhere(item):
        yield from (told for _, told in idle(places, item, names))


def _check_sweep(asked: object, scenario: Scenario) -> None:
    """Raises ValueError for a scenario that cannot be swept, and for faults that there are not."""
    from notnow.chaos import calling

    base = calling.base_for(scenario)
    if isinstance(asked, bool):
        return
    if not isinstance(asked, (list, tuple)):
        raise MarkerError(f'sweep is {asked!r}; allowed: True, or a list of faults such as ["421", "close"]')
    calling.terms_of(base, faults=asked, at=(), cells=())


def check_lasting(places: Places, path: Path, fixture: str, mark: pytest.Mark) -> Scenario:
    """The scenario of a marker, for a fake that is already running. Raises ValueError if it cannot play it."""
    fresh = fixture.rpartition("_")[0]
    if mark.kwargs.get(SWEEP):
        raise MarkerError(
            f"a sweep runs a test many times, each with a new fake: ask for {fresh} in place of {fixture}"
        )
    if is_pattern(mark):
        raise MarkerError(
            f"a pattern ({name_of(mark)!r}) runs a test once for each scenario, each with a new fake: "
            f"ask for {fresh} in place of {fixture}"
        )
    if options := split(mark)[1]:
        raise MarkerError(
            f"{next(iter(options))!r} is set when a server starts, and {fixture} runs already: ask for {fresh} in this "
            f"test, or make a fixture of your own with that option, as the reference of the plugin shows"
        )
    return scenario_of(places, path, mark)


def _doubled(places: Places, item: pytest.Item) -> Iterator[str]:
    """Two markers for one protocol on one test: the second would never be read."""
    callspec = getattr(item, "callspec", None)
    inner = [mark for mark in getattr(callspec, "marks", ()) if mark.name == "notnow"]
    own = [m for m in item.own_markers if m.name == "notnow" and not any(m is one for one in inner)]
    seen: dict[str, pytest.Mark] = {}
    for mark in own:
        protocol = places.protocol(item.path, name_of(mark))
        first = seen.setdefault(protocol, mark)
        if first is not mark:
            yield (
                f"{name_of(first)!r} and {name_of(mark)!r} are both for {protocol}, and only the nearest would play: "
                "remove one"
            )


def idle(places: Places, item: pytest.Item, names: Sequence[str]) -> Iterator[tuple[pytest.Mark, str]]:
    """The markers on the test itself that no fixture of notnow reads, each with advice."""
    marks, read = of_item(item), []
    for _, protocol in fixtures_of_ours(names):
        mark = nearest(places, item.path, marks, protocol)
        read += [mark] if mark is not None else []
    inner = getattr(getattr(item, "callspec", None), "marks", ())
    served = {places.protocol(item.path, name_of(mark)) for mark in read}
    for mark in marks:
        own = any(mark is one for one in [*item.own_markers, *inner])
        protocol = places.protocol(item.path, name_of(mark))
        if own and protocol not in served and not any(mark is one for one in read):
            yield mark, _what_to_do(protocol, name_of(mark), names)


def _what_to_do(protocol: str, name: str, names: Sequence[str]) -> str:
    asked = [fixture for fixture in names if fixture in FIXTURES]
    fits = f"fake_{protocol}" if protocol in protocols.NAMES else "fake_server"
    if asked:
        return (
            f"{name!r} is for {protocol}, and this test asks for {', '.join(asked)}: ask for {fits} or fake_server, "
            f"or name a scenario of {' or '.join(str(FIXTURES[fixture]) for fixture in asked)}"
        )
    if "fake_servers" in names:
        return (
            f"fake_servers reads no marker, so nothing plays {name!r}: name the scenario in the call, "
            f'as in fake_servers(primary="{name}"), and remove the marker'
        )
    return (
        f"nothing plays {name!r}, since this test asks for no fixture of notnow: add {fits} to its arguments "
        f'(or give a fake that you make its scenario yourself, as in Fake…("{name}")), or remove the marker'
    )


def asks_elsewhere(item: pytest.Item) -> bool:
    """True if the test or one of its fixtures holds pytest's `request`, and may request a fixture of notnow while it runs."""
    info = getattr(item, "_fixtureinfo", None)
    if info is None or "request" in info.argnames:
        return True
    known = [definition for found in info.name2fixturedefs.values() for definition in found]
    return any(
        "request" in definition.argnames and not definition.func.__module__.startswith(("_pytest.", "notnow."))
        for definition in known
    )
