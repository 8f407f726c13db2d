"""The mutants of a module: one small change each."""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
}
_CALLED = {"min": "max", "max": "min", "any": "all", "all": "any"}

Change = Callable[[ast.AST], None]


@dataclass(frozen=True)
class Mutant:
    """A change to the node number `number` of a module, as `ast.walk` counts them."""

    path: Path
    number: int
    line: int
    what: str
    change: Change

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}"

    def tree(self) -> ast.Module:
        """The module with the change."""
        tree = parsed(self.path)
        for number, node in enumerate(ast.walk(tree)):
            if number == self.number:
                self.change(node)
        return ast.fix_missing_locations(tree)


def mutants(path: Path) -> list[Mutant]:
    """All mutants of a module, in the order of its lines."""
    tree = parsed(path)
    left_out = _left_out(tree)
    found = [
        Mutant(path, number, getattr(node, "lineno", 0), what, change)
        for number, node in enumerate(ast.walk(tree))
        if id(node) not in left_out
        for what, change in _changes(node)
    ]
    return sorted(found, key=lambda mutant: (mutant.line, mutant.number, mutant.what))


def unchanged(path: Path) -> Mutant:
    """The control: a mutant that differs in nothing."""
    return Mutant(path, -1, 0, "nothing", _keep)


def parsed(path: Path) -> ast.Module:
    return ast.parse(_text(path), str(path))


@functools.cache
def _text(path: Path) -> str:
    """The text as it was when the mutants were made: their numbers count its nodes."""
    return path.read_text()


def _left_out(tree: ast.Module) -> set[int]:
    """The nodes (by `id`) that no test has to know: annotations, decorators, options of classes, imports for type checkers, assertions."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                roots += node.decorator_list
                roots += [getattr(node, "returns", None)]
                roots += getattr(node, "keywords", [])  # frozen=True: nobody writes to what is not frozen
            case ast.AnnAssign() | ast.arg():
                roots.append(node.annotation)
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) | ast.Assert() | ast.Raise() | ast.FormattedValue():
                roots.append(node)
            case ast.Assign(targets=[ast.Name(id="__all__" | "T" | "__tracebackhide__")]):
                roots.append(node)
    return {id(node) for root in roots if root is not None for node in ast.walk(root)}


def _changes(node: ast.AST) -> Iterator[tuple[str, Change]]:
    """What can be changed of a node, in words, and how."""
    yield from _operators(node)
    yield from _constants(node)
    yield from _statements(node)


def _operators(node: ast.AST) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Compare(ops=[op]):
            for other in _COMPARED[type(op)]:
                yield _told(node, lambda n, other=other: setattr(n, "ops", [other()]))  # type: ignore[misc]
        case ast.BoolOp():
            instead = ast.Or if isinstance(node.op, ast.And) else ast.And
            yield _told(node, lambda n: setattr(n, "op", instead()))
        case ast.BinOp() if type(node.op) in _COMPUTED and not _is_text(node):
            yield _told(node, lambda n: setattr(n, "op", _COMPUTED[type(node.op)]()))
        case ast.Call(func=ast.Name(id=name)) if name in _CALLED:
            yield _told(node, lambda n: setattr(n.func, "id", _CALLED[name]))  # type: ignore[attr-defined]


def _constants(node: ast.AST) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.Constant(value=bool(value)):
            yield _told(node, lambda n: setattr(n, "value", not value))
        case ast.Constant(value=int(value) | float(value)):
            yield _told(node, lambda n: setattr(n, "value", value + 1))
            if abs(value) >= 5:
                yield _told(node, lambda n: setattr(n, "value", type(value)(value * 0.8)))


def _statements(node: ast.AST) -> Iterator[tuple[str, Change]]:
    match node:
        case ast.If() | ast.IfExp():
            yield f"{_head(node)} -> the opposite", _negate
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield f"{_head(node)} -> return None", lambda n: setattr(n, "value", ast.Constant(None))
        case ast.AugAssign() | ast.Expr(value=ast.Call()) | ast.Continue() | ast.Break() | ast.Delete():
            yield f"{_head(node)} -> pass", _pass
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript()]):
            yield f"{_head(node)} -> pass", _pass


def _keep(_: ast.AST) -> None:
    """Change nothing."""


def _told(node: ast.AST, change: Change) -> tuple[str, Change]:
    after = copy.deepcopy(node)
    change(after)
    return f"{ast.unparse(node)} -> {ast.unparse(after)}", change


def _head(node: ast.AST) -> str:
    return ast.unparse(node).splitlines()[0][:90]


def _negate(node: ast.AST) -> None:
    assert isinstance(node, ast.If | ast.IfExp)
    node.test = ast.UnaryOp(ast.Not(), node.test)


def _pass(node: ast.AST) -> None:
    """A statement becomes `pass`, in place."""
    node.__class__ = ast.Pass


def _is_text(node: ast.BinOp) -> bool:
    sides = (node.left, node.right)
    return any(
        isinstance(s, ast.JoinedStr) or (isinstance(s, ast.Constant) and isinstance(s.value, str)) for s in sides
    )
