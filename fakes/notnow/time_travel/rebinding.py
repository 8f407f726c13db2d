"""Finds who has taken a function by name (`from time import sleep`), and gives them another.

The garbage collector knows who refers to a function: one look at it finds the globals of modules and the
defaults of functions, such as those of `sched.scheduler`. Other places (attributes, cells) are left alone.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import FunctionType, ModuleType
from typing import Any

Pairs = Iterable[tuple[Any, Any]]
# These have their own reasons to hold the real functions.
_LEFT_ALONE = ("_pytest", "notnow.time_travel", "time_machine", "freezegun")


def rebind(stack: ExitStack, pairs: Pairs) -> None:
    """Put the second of each pair wherever the first is held; the other way round when `stack` closes.

    What takes hold of a second meanwhile, a module imported late, gets the first then as well.
    """
    there = list(pairs)
    stack.callback(_replace, [(new, old) for old, new in there])
    _replace(there)


def _replace(pairs: list[tuple[Any, Any]]) -> None:
    instead = {id(old): new for old, new in pairs}
    modules = {id(vars(module)): name for name, module in list(sys.modules.items()) if isinstance(module, ModuleType)}
    defaults = []
    for holder in gc.get_referrers(*(old for old, _ in pairs)):
        if isinstance(holder, dict) and id(holder) in modules:
            _in_module(holder, modules[id(holder)], instead)
        elif isinstance(holder, (dict, tuple)):
            defaults.append(holder)
    for function in gc.get_referrers(*defaults):
        if isinstance(function, FunctionType):
            _in_defaults(function, {id(holder) for holder in defaults}, instead)


def _in_module(names: dict[str, Any], module: str, instead: dict[int, Any]) -> None:
    if not module.startswith(_LEFT_ALONE):
        for name, value in list(names.items()):
            if id(value) in instead:
                names[name] = instead[id(value)]


def _in_defaults(function: FunctionType, holders: set[int], instead: dict[int, Any]) -> None:
    if (function.__module__ or "").startswith(_LEFT_ALONE):
        return
    if function.__defaults__ is not None and id(function.__defaults__) in holders:
        function.__defaults__ = tuple(instead.get(id(value), value) for value in function.__defaults__)
    if function.__kwdefaults__ is not None and id(function.__kwdefaults__) in holders:
        function.__kwdefaults__ = {k: instead.get(id(v), v) for k, v in function.__kwdefaults__.items()}
