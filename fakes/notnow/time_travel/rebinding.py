"""Finds who has taken a function by name (`from time import sleep`), and gives them another.

The garbage collector knows who refers to a function: one look at it finds the globals of modules and the
defaults of functions, such as those of `sched.scheduler`. Other places (attributes, cells) are left alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from types import FunctionType, ModuleType
from typing import Any

Undo = Callable[[], object]
# These have their own reasons to hold the real functions.
_LEFT_ALONE = ("_pytest", "notnow.time_travel", "time_machine", "freezegun")


def rebind(stack: ExitStack, substitutes: dict[Any, Any]) -> None:
    """Put the substitute of each object wherever that is held; take it away again when `stack` closes.

    A module that is imported meanwhile takes hold of a substitute, which is taken away from it as well.
    """
    stack.callback(_catch_up, set(sys.modules), substitutes)
    for undo in _replace(substitutes):
        stack.callback(undo)


def _catch_up(known: set[str], substitutes: dict[Any, Any]) -> None:
    if not known.issuperset(sys.modules):
        list(_replace({new: old for old, new in substitutes.items()}))


def _replace(substitutes: dict[Any, Any]) -> Iterator[Undo]:
    """Replace, and give for each place what undoes it."""
    instead = {id(old): new for old, new in substitutes.items()}
    modules = {id(vars(module)): name for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)}
    defaults = []
    for holder in gc.get_referrers(*substitutes):
        if isinstance(holder, dict) and id(holder) in modules:
            if not modules[id(holder)].startswith(_LEFT_ALONE):
                yield from _in_module(holder, instead)
        elif _may_be_defaults(holder) and holder is not substitutes:
            defaults.append(holder)
    yield from _in_defaults(defaults, instead)


def _may_be_defaults(holder: object) -> bool:
    """A class is held by tuples of classes only; asking for them costs another look at everything."""
    return isinstance(holder, dict) or (isinstance(holder, tuple) and not all(isinstance(x, type) for x in holder))


def _in_module(names: dict[str, Any], instead: dict[int, Any]) -> Iterator[Undo]:
    for name, value in list(names.items()):
        if id(value) in instead:
            names[name] = instead[id(value)]
            yield partial(names.__setitem__, name, value)


def _in_defaults(holders: list[Any], instead: dict[int, Any]) -> Iterator[Undo]:
    ids = {id(holder) for holder in holders}
    for function in gc.get_referrers(*holders) if holders else ():
        if not isinstance(function, FunctionType) or (function.__module__ or "").startswith(_LEFT_ALONE):
            continue
        plain, by_name = function.__defaults__, function.__kwdefaults__
        if plain is not None and id(plain) in ids:
            function.__defaults__ = tuple(instead.get(id(value), value) for value in plain)
            yield partial(setattr, function, "__defaults__", plain)
        if by_name is not None and id(by_name) in ids:
            function.__kwdefaults__ = {name: instead.get(id(value), value) for name, value in by_name.items()}
            yield partial(setattr, function, "__kwdefaults__", by_name)
