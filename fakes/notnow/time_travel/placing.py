"""Replaces functions until a stack closes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

Real = Callable[..., Any]


def wrap(stack: ExitStack, owner: Any, wrapper: Callable[[Real], Real], *names: str) -> None:
    """Put `wrapper(real)` in place of each of these functions of `owner`."""
    for name in names:
        put(stack, owner, name, wrapper(getattr(owner, name)))


def put(stack: ExitStack, owner: Any, name: str, new: object) -> None:
    """Set an attribute; an attribute that was inherited before is inherited again afterwards."""
    if name in vars(owner):
        stack.callback(setattr, owner, name, vars(owner)[name])
    else:
        stack.callback(delattr, owner, name)
    setattr(owner, name, new)
