"""The selector of the fakes' loop: epoll, as `selectors.EpollSelector` has it, in a third of the calls.

A client of one short session costs a handful of turns of the loop, and the selector had a tenth of its time.
"""

from __future__ import annotations

import select
import selectors
import sys
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any

Ready = list[tuple[SelectorKey, int]]


def number(file: Any) -> int:
    """The descriptor of a file: it may be given as its number, or as an object that has one."""
    return file if type(file) is int else int(file.fileno())


POLLS_ON = sys.platform == "linux"  # a socket that another thread adds while it waits is watched from then on

if sys.platform == "linux":
    MASKS = {
        EVENT_READ: select.EPOLLIN,
        EVENT_WRITE: select.EPOLLOUT,
        EVENT_READ | EVENT_WRITE: select.EPOLLIN | select.EPOLLOUT,
    }

    READABLE = select.EPOLLIN

    class Polling(selectors.BaseSelector):
        """Watches file descriptors, which are given as numbers or by objects that have one."""

        def __init__(self) -> None:
            self._epoll = select.epoll()
            self._keys: dict[int, SelectorKey] = {}

        def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
            """Raises KeyError if it is watched already."""
            fd = fileobj if type(fileobj) is int else number(fileobj)
            if fd in self._keys:
                raise KeyError(fd)
            self._epoll.register(fd, MASKS[events])
            key = self._keys[fd] = SelectorKey(fileobj, fd, events, data)
            return key

        def unregister(self, fileobj: Any) -> SelectorKey:
            """Raises KeyError if it is not watched."""
            key = self._keys.pop(fileobj if type(fileobj) is int else number(fileobj))
            try:  # noqa: SIM105 (three calls more, twice a session)
                self._epoll.unregister(key.fd)
            except OSError:  # it has been closed
                pass
            return key

        def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
            """Raises KeyError if it is not watched."""
            fd = number(fileobj)
            if events != self._keys[fd].events:
                self._epoll.modify(fd, MASKS[events])
            key = self._keys[fd] = SelectorKey(fileobj, fd, events, data)
            return key

        def select(self, timeout: float | None = None) -> Ready:
            """What is ready, after at most so many seconds; None: without end. An interrupted wait finds nothing."""
            if timeout is not None and timeout < 0:
                timeout = 0
            keys = self._keys
            try:
                found = self._epoll.poll(timeout, len(keys) or 1)
            except InterruptedError:
                return []
            ready = []
            for fd, mask in found:
                if (key := keys.get(fd)) is not None:
                    ready.append((key, EVENT_READ if mask == READABLE else _events(mask) & key.events))
            return ready

        def get_key(self, fileobj: Any) -> SelectorKey:
            """Raises KeyError if it is not watched."""
            return self._keys[number(fileobj)]

        def get_map(self) -> Mapping[Any, SelectorKey]:
            """By numbers alone."""
            return self._keys

        def close(self) -> None:
            self._epoll.close()
            self._keys.clear()

    def _events(mask: int) -> int:
        """An error or a hang-up wakes readers and writers."""
        return (EVENT_READ if mask & ~select.EPOLLOUT else 0) | (EVENT_WRITE if mask & ~select.EPOLLIN else 0)

else:
    Polling = selectors.DefaultSelector
