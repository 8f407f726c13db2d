"""select, poll and epoll, called directly or through a selector: their time-outs are scenario time."""

from __future__ import annotations

import functools
import select
import selectors
from collections.abc import Callable, Iterable
from typing import Any, Self

from notnow.time_travel.parties import FileWait, WaitResult, real_poll, real_select
from notnow.time_travel.world import seen

Real = Callable[..., Any]
real_epoll = getattr(select, "epoll", None)


def waiting(poll: Callable[[float | None], Any], timeout: float | None, files: Callable[[], list[FileWait]]) -> Any:
    """The result of `poll(timeout)`, which waits for `files()`; `timeout` is in seconds."""
    world = seen()
    if world is None:
        return poll(timeout)
    if timeout is not None and timeout <= 0:
        ready = poll(timeout)
        if not ready:
            world.looked_in_vain()
        return ready
    result = world.park(timeout, files=files())
    return poll(timeout if result is WaitResult.CLOSED else 0)


def selector_select(real: Real) -> Real:
    """The select method of a selector: asyncio's only wait."""

    @functools.wraps(real)
    def select_(selector: Any, timeout: float | None = None) -> Any:
        return waiting(lambda left: real(selector, left), timeout, lambda: _selected(selector))

    return select_


def _selected(selector: selectors.BaseSelector) -> list[FileWait]:
    masks = ((selectors.EVENT_READ, select.POLLIN), (selectors.EVENT_WRITE, select.POLLOUT))
    return [(key.fd, sum(poll for event, poll in masks if key.events & event)) for key in selector.get_map().values()]


def select_(
    rlist: Iterable[Any], wlist: Iterable[Any], xlist: Iterable[Any], timeout: float | None = None, /
) -> tuple[list[Any], list[Any], list[Any]]:
    """select.select"""
    lists = [list(rlist), list(wlist), list(xlist)]

    def poll(left: float | None) -> Any:
        found = real_select(lists[0], lists[1], lists[2], left)
        return found if any(found) else _Nothing(found)

    def files() -> list[FileWait]:
        masks = (select.POLLIN, select.POLLOUT, select.POLLPRI)
        return [(_fd(file), mask) for some, mask in zip(lists, masks, strict=True) for file in some]

    found = waiting(poll, timeout, files)
    return tuple(found)


class _Nothing(tuple):  # type: ignore[type-arg]
    """The three empty lists of select, which count as nothing."""

    def __bool__(self) -> bool:
        return False


def _fd(file: Any) -> int:
    return file if isinstance(file, int) else int(file.fileno())


class Poll:
    """select.poll()"""

    def __init__(self) -> None:
        assert real_poll is not None, "fast_forward is refused where there is no poll()"
        self._real, self._masks = real_poll(), dict[int, int]()

    def register(self, fd: Any, eventmask: int = select.POLLIN | select.POLLPRI | select.POLLOUT, /) -> None:
        self._real.register(fd, eventmask)
        self._masks[_fd(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._real.modify(fd, eventmask)
        self._masks[_fd(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        self._real.unregister(fd)
        self._masks.pop(_fd(fd), None)

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        """`timeout` is in milliseconds; None or a negative number is none."""
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        found: list[tuple[int, int]] = waiting(
            lambda left: self._real.poll(None if left is None else left * 1000),
            seconds,
            lambda: list(self._masks.items()),
        )
        return found


class Epoll:
    """select.epoll()"""

    def __init__(self, sizehint: int = -1, flags: int = 0, *, real: Any = None) -> None:
        self._real = real if real is not None else real_epoll(sizehint, flags)  # type: ignore[misc]

    @classmethod
    def fromfd(cls, fd: int) -> Self:
        return cls(real=real_epoll.fromfd(fd))  # type: ignore[union-attr]

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """`timeout` is in seconds; None or a negative number is none."""
        found: list[tuple[int, int]] = waiting(
            lambda left: self._real.poll(left, maxevents),
            None if timeout is None or timeout < 0 else timeout,
            lambda: [(self._real.fileno(), select.POLLIN)],
        )
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._real.close()


SUBSTITUTES: dict[Any, Any] = {real_select: select_, real_poll: Poll, **({real_epoll: Epoll} if real_epoll else {})}
