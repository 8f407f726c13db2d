"""The tables of a scenario file as frozen records: the keys of each, and the reader that makes a record of raw TOML.

A table is a class whose keys are `key(KIND, about=TEXT)`. A `Kind` reads a value, or refuses it and says what is allowed. The
JSON Schema, the reference in the docs and the error messages are printed from the same keys. `read` finds every mistake
in a table: bad values in the order of its keys, then missing keys, then unknown ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar, dataclass_transform, overload

from notnow.errors import nearest
from notnow.language.toml_lines import Path, show

T = TypeVar("T")
TableT = TypeVar("TableT", bound="Table")


# ---- mistakes ------------------------------------------------------------------------------------


class RefusedError(ValueError):
    """A value that is not allowed. `choices` are the words that are, and `nearest` is the one that was probably meant."""

    def __init__(self, allowed: str, nearest: str | None = None, choices: tuple[str, ...] = ()) -> None:
        super().__init__(allowed)
        self.allowed, self.nearest, self.choices = allowed, nearest, choices


def refuse(allowed: str, value: object = None, choices: Iterable[str] = ()) -> RefusedError:
    """The error of a value that is not allowed, with the choice that it was near."""
    known = tuple(choices)
    return RefusedError(allowed, nearest(value, known) if isinstance(value, str) else None, known)


class UnknownKey(NamedTuple):
    """A table has no such key."""

    table: type[Table]


class MissingKey(NamedTuple):
    """A table lacks a key. `about` says what its value is for."""

    about: str


class Mistake(NamedTuple):
    """A mistake at a path, and the value found there."""

    path: Path
    value: object
    why: RefusedError | UnknownKey | MissingKey


class InvalidError(ValueError):
    """The value of a table or a list has mistakes in it."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        super().__init__(f"mistakes at {', '.join(show(mistake.path) for mistake in mistakes)}")
        self.mistakes = mistakes


# ---- keys ----------------------------------------------------------------------------------------


class Kind(Generic[T]):
    """The values that a key may have.

    `read` returns the value that a record holds; it raises RefusedError or InvalidError. `schema` is its JSON Schema, which
    refers to `tables`.
    """

    __slots__ = ("read", "schema", "tables")

    def __init__(
        self, read: Callable[[object], T], schema: Mapping[str, Any], tables: tuple[type[Table], ...] = ()
    ) -> None:
        self.read, self.schema, self.tables = read, schema, tables


class Key(Generic[T]):
    """A key of a table. `about` describes it; other modules read the `marks`. A key without a default is required."""

    __slots__ = ("about", "default", "kind", "marks")

    def __init__(self, kind: Kind[T], marks: tuple[Any, ...], about: str, default: Callable[[], Any] | None) -> None:
        self.kind, self.marks, self.about, self.default = kind, marks, about, default


@overload
def key(kind: Kind[T], *marks: Any, about: str) -> T | None: ...
@overload
def key(kind: Kind[T], *marks: Any, about: str, default: T) -> T: ...
@overload
def key(kind: Kind[T], *marks: Any, about: str, factory: Callable[[], T]) -> T: ...
def key(kind: Kind[Any], *marks: Any, about: str, default: Any = None, factory: Callable[[], Any] | None = None) -> Any:
    """A key that may be left out. `factory` makes a default that must not be shared."""
    return Key(kind, marks, about, factory or (lambda: default))


def required(kind: Kind[T], *marks: Any, about: str) -> T:
    """A key that every table of its class has."""
    made: Any = Key(kind, marks, about, None)
    return made  # type: ignore[no-any-return]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(required,))
class Table:
    """A table of a scenario file. `KEYS` has the keys of its class, those of its bases first."""

    KEYS: ClassVar[Mapping[str, Key[Any]]] = {}

    def __init_subclass__(cls) -> None:
        own = {name: found for name, found in vars(cls).items() if isinstance(found, Key)}
        for name in own:
            delattr(cls, name)
        inherited = [base.KEYS for base in reversed(cls.__bases__) if issubclass(base, Table)]
        cls.KEYS = {name: found for keys in (*inherited, own) for name, found in keys.items()}

    def __init__(self, **given: Any) -> None:
        """A record of values as `read` returns them; a key that is left out has its default."""
        values = vars(self)
        for name, one in self.KEYS.items():
            if name in given:
                values[name] = given.pop(name)
            elif one.default is not None:
                values[name] = one.default()
            else:
                raise TypeError(f"a {type(self).__name__} needs the key {name!r}")
        if given:
            raise TypeError(f"a {type(self).__name__} has no key {min(given)!r}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} of a {type(self).__name__} cannot be set: a table is frozen")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # some values are tables and lists

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def replace(table: TableT, **changes: Any) -> TableT:
    """The same table with other values for some keys."""
    return type(table)(**{**vars(table), **changes})


# ---- reading -------------------------------------------------------------------------------------


def read(table: type[TableT], given: object) -> TableT:
    """The record of a raw table. Raises InvalidError with every mistake in it."""
    if not isinstance(given, dict):
        raise RefusedError("a table")
    values, mistakes = _read_each((name, one.kind, given[name]) for name, one in table.KEYS.items() if name in given)
    needed = {name: one.about for name, one in table.KEYS.items() if one.default is None}
    mistakes += [Mistake((name,), None, MissingKey(about)) for name, about in needed.items() if name not in given]
    mistakes += [Mistake((name,), value, UnknownKey(table)) for name, value in given.items() if name not in table.KEYS]
    return table(**_all_right(values, mistakes))


def _read_each(items: Iterable[tuple[str | int, Kind[Any], object]]) -> tuple[dict[Any, Any], list[Mistake]]:
    """The values by their names or numbers, and the mistakes in them."""
    values: dict[Any, Any] = {}
    mistakes: list[Mistake] = []
    for name, kind, value in items:
        try:
            values[name] = kind.read(value)
        except RefusedError as why:
            mistakes.append(Mistake((name,), value, why))
        except InvalidError as error:
            mistakes += [mistake._replace(path=(name, *mistake.path)) for mistake in error.mistakes]
    return values, mistakes


def _all_right(values: dict[Any, Any], mistakes: list[Mistake]) -> dict[Any, Any]:
    if mistakes:
        raise InvalidError(mistakes)
    return values


def a_table(table: type[TableT]) -> Kind[TableT]:
    """One table of a class."""
    return Kind(lambda value: read(table, value), {"$ref": f"#/definitions/{table.__name__}"}, (table,))


def list_of(kind: Kind[T]) -> Kind[list[T]]:
    """A list of values of one kind."""

    def read_list(value: object) -> list[T]:
        if not isinstance(value, list):
            raise RefusedError("a list")
        return list(_all_right(*_read_each((i, kind, item) for i, item in enumerate(value))).values())

    return Kind(read_list, {"type": "array", "items": kind.schema}, kind.tables)


def by_name(kind: Kind[T], **more: Any) -> Kind[dict[str, T]]:
    """Values of one kind, each under a name that the author chooses; `more` joins the schema."""

    def read_names(value: object) -> dict[str, T]:
        if not isinstance(value, dict):
            raise RefusedError("a table")
        return _all_right(*_read_each((name, kind, item) for name, item in value.items()))

    return Kind(read_names, {"type": "object", "additionalProperties": kind.schema, **more}, kind.tables)
