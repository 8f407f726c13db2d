"""Finds every holder of a function (`from time import sleep`), and gives it a substitute.

The garbage collector knows all references to a function: one search finds the globals of modules and the
defaults of functions (such as those of `sched.scheduler`), attributes of classes and objects, and variables of
enclosing functions. Containers and `functools.partial` are left alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import CellType, FrameType, FunctionType, ModuleType
from typing import Any

from notnow.time_travel import watchdogs

Undo = Callable[[], object]
# These have their own reasons to hold the real functions. freezegun is not among them: what it keeps, it puts back in `time`.
_LEFT_ALONE = ("_pytest", "notnow.time_travel", "notnow.servers", "time_machine", *watchdogs.WATCHDOGS)
# Names that stay as they are in their own modules, which are handled separately.
_OWN: dict[str, frozenset[str]] = {
    "_thread": frozenset({"allocate_lock", "allocate", "lock", "LockType", "RLock"}),
    "threading": frozenset({"Lock", "_allocate_lock", "RLock", "_CRLock", "_LockType", "_start_new_thread"}),
    "select": frozenset({"select", "poll", "epoll"}),
}


def rebind(stack: ExitStack, substitutes: dict[Any, Any]) -> None:
    """Put the substitute of each object in every place that holds the object; restore them when `stack` closes.

    A module that is imported meanwhile gets a substitute, and loses it again as well.
    """
    gc.unfreeze()  # `gc.get_referrers` does not see what a program has frozen, such as its modules
    stack.callback(_catch_up, set(sys.modules), substitutes)
    for undo in _replace(substitutes):
        stack.callback(undo)


def _catch_up(known: set[str], substitutes: dict[Any, Any]) -> None:
    if not known.issuperset(sys.modules):
        list(_replace({new: old for old, new in substitutes.items()}))


def _replace(substitutes: dict[Any, Any]) -> Iterator[Undo]:
    """Replace, and return the undo function of each place."""
    instead = {id(old): new for old, new in substitutes.items()}
    modules = {id(vars(module)): name for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)}
    defaults = []
    for holder in gc.get_referrers(*substitutes):
        if isinstance(holder, dict) and id(holder) in modules:
            name = modules[id(holder)]
            if not name.startswith(_LEFT_ALONE):
                yield from _in_module(holder, instead, _OWN.get(name, frozenset()))
        elif isinstance(holder, CellType):
            yield from _in_cell(holder, instead)
        elif isinstance(holder, dict) and "__module__" in holder and "__qualname__" not in holder:
            yield from _in_class(holder, instead)
            defaults.append(holder)
        elif _may_be_defaults(holder) and holder is not substitutes:
            defaults.append(holder)
        elif _may_have_attributes(holder):
            yield from _in_instance(holder, instead)
    yield from _in_defaults(defaults, instead)


def _may_be_defaults(holder: object) -> bool:
    """Only tuples of classes hold a class; finding them costs another search of everything."""
    return isinstance(holder, dict) or (isinstance(holder, tuple) and not all(isinstance(x, type) for x in holder))


def _may_have_attributes(holder: object) -> bool:
    others = (dict, tuple, list, type, FrameType, FunctionType, ModuleType)
    return not isinstance(holder, others) and not type(holder).__module__.startswith(_LEFT_ALONE)


def _in_module(names: dict[str, Any], instead: dict[int, Any], own: frozenset[str]) -> Iterator[Undo]:
    for name, value in list(names.items()):
        if id(value) in instead and name not in own:
            names[name] = instead[id(value)]
            yield partial(names.__setitem__, name, value)


def _in_cell(cell: CellType, instead: dict[int, Any]) -> Iterator[Undo]:
    """A variable of an enclosing function."""
    real = cell.cell_contents
    cell.cell_contents = instead[id(real)]
    yield partial(setattr, cell, "cell_contents", real)


def _in_class(names: dict[str, Any], instead: dict[int, Any]) -> Iterator[Undo]:
    """An attribute of a class. It is set through the class, or Python would go on with its cached value."""
    for owner in [o for o in gc.get_referrers(names) if isinstance(o, type)]:
        if owner.__module__.startswith(_LEFT_ALONE):
            continue
        for name, value in list(names.items()):
            if id(value) in instead and owner.__dict__.get(name) is value:
                setattr(owner, name, _unbound(instead[id(value)]))
                yield partial(setattr, owner, name, value)


def _unbound(new: Any) -> Any:
    """A Python function replaces one of C, which does not bind to the instance."""
    return staticmethod(new) if isinstance(new, FunctionType) else new


def _in_instance(holder: Any, instead: dict[int, Any]) -> Iterator[Undo]:
    """An attribute of an object."""
    for name, value in list(getattr(holder, "__dict__", {}).items()):
        if id(value) in instead:
            vars(holder)[name] = instead[id(value)]
            yield partial(vars(holder).__setitem__, name, value)


def _in_defaults(holders: list[Any], instead: dict[int, Any]) -> Iterator[Undo]:
    ids = {id(holder) for holder in holders}
    for function in gc.get_referrers(*holders) if holders else ():
        if not isinstance(function, FunctionType):
            if id(getattr(function, "__dict__", None)) in ids and _may_have_attributes(function):
                yield from _in_instance(function, instead)
            continue
        if (function.__module__ or "").startswith(_LEFT_ALONE):
            continue
        plain, by_name = function.__defaults__, function.__kwdefaults__
        if plain is not None and id(plain) in ids:
            function.__defaults__ = tuple(instead.get(id(value), value) for value in plain)
            yield partial(setattr, function, "__defaults__", plain)
        if by_name is not None and id(by_name) in ids:
            function.__kwdefaults__ = {name: instead.get(id(value), value) for name, value in by_name.items()}
            yield partial(setattr, function, "__kwdefaults__", by_name)
