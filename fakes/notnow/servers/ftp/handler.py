"""pyftpdlib's handler, without a connection of its own."""

from __future__ import annotations

import logging
from typing import Any

from pyftpdlib.handlers import FTPHandler


class BegunHandler(FTPHandler):
    """The handler in the state of a session that has just begun.

    The state is in attributes of the class, so a session has only what has changed in it. pyftpdlib never changes a value
    of its state in place; it sets another.
    """


class NoSocket:
    """The methods of a socket that the handler calls in `__init__`."""

    def fileno(self) -> int:
        return 1

    def getpeername(self) -> tuple[str, int]:
        return "", 0

    def setblocking(self, flag: bool) -> None: ...
    def setsockopt(self, *_: Any) -> None: ...


class NoServer:
    """pyftpdlib's server counts connections; here the engine does."""

    def _accept_new_cons(self) -> bool:
        return True


class NoLoop:
    """The methods of pyftpdlib's loop that the handler calls in `__init__`."""

    READ, WRITE = 1, 2

    def register(self, *_: Any) -> None: ...
    def call_later(self, *_: Any, **__: Any) -> None: ...


class Silent(FTPHandler):
    """A handler that logs nothing: nobody has connected."""

    def log(self, *_: Any, **__: Any) -> None: ...


def begun() -> dict[str, Any]:
    """The state of a handler whose session has just begun."""
    logging.getLogger("pyftpdlib").addHandler(logging.NullHandler())  # otherwise it sets up logging of its own
    return dict(vars(Silent(NoSocket(), NoServer(), NoLoop())))


for _name, _value in begun().items():
    setattr(BegunHandler, _name, _value)
