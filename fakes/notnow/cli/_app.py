"""`module:attribute`: your own object, such as the ASGI application of `--app`, imported as uvicorn and hypercorn import one."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from notnow.errors import Problem, ScenarioError, nearest

FORM = "MODULE:ATTRIBUTE, such as main:{0} for the object `{0}` of main.py"


def load(text: str, option: str = "--app", what: str = "app", fits: Callable[[object], bool] = callable) -> Any:
    """The object of this name, from a module of the current directory or of Python's path. Raises ScenarioError.

    `option` is where it was named, and `what` a usual name for such an object. `fits` tells which
    other objects of the module to name where there is none of this name.
    """
    try:
        return _loaded(text, what, fits)
    except ScenarioError as error:
        raise ScenarioError([problem._replace(key=option) for problem in error.problems]) from None


def _loaded(text: str, what: str, fits: Callable[[object], bool]) -> Any:
    name, _, attribute = text.partition(":")
    if not all(part.isidentifier() for part in (*name.split("."), *attribute.split("."))):
        meant = name.removesuffix(".py").replace("/", ".").strip(".")
        raise _bad(f"{text!r}", FORM.format(what), f"{meant}:{attribute or what}")
    found: Any = _module(name)
    for part in attribute.split("."):
        if not hasattr(found, part):
            names = [known for known in vars(found) if not known.startswith("_")] if hasattr(found, "__dict__") else []
            usable = [known for known in names if fits(getattr(found, known))]
            allowed = f"a name of {name}, which has {', '.join(usable) or 'none that can be used'}"
            raise _bad(f"there is no {part!r} in {name}", allowed, nearest(part, names))
        found = getattr(found, part)
    return found


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # it stays: an app may import more while it runs
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _failed(name, error) from None  # the app itself imports a module that is missing
        modules = sorted({file.stem for file in Path(here).iterdir() if file.suffix == ".py" or file.is_dir()})
        raise _bad(
            f"there is no module {error.name!r}", f"a module in {here}, or an installed one", nearest(name, modules)
        ) from None
    except (Exception, SystemExit) as error:
        raise _failed(name, error) from None


def _failed(name: str, error: BaseException) -> ScenarioError:
    """The module is there, and cannot be imported: say where it has failed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen ")]
    where = f" ({os.path.relpath(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return _bad(f"{name} cannot be imported: {type(error).__name__}: {error}{where}")


def _bad(found: str, allowed: str = "", near: str | None = None) -> ScenarioError:
    return ScenarioError([Problem(found, allowed=allowed, nearest=near)])
