"""What the protocols of hypercorn are made with: its settings, a group of tasks, and the lifespan of an app.

Private seams: `Config`, its `errorlog`, `accesslog` and limits, `Lifespan` and `ASGIWrapper`, and that protocols begin tasks
by `task_group.spawn` only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.lifespan import Lifespan
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.config import Config

from notnow.bounds import H1_HEAD, H2_HEAD
from notnow.servers.http.interfaces import Owner

NO_LIMIT = 2**31 - 1


def config() -> Config:
    made = Config()
    made.errorlog = made.accesslog = None
    made.include_server_header = made.include_date_header = False
    made.shutdown_timeout = 10  # seconds for an app to end; `stop` waits at most 30
    made.h11_max_incomplete_size, made.h2_max_header_list_size = H1_HEAD, H2_HEAD
    made.keep_alive_max_requests = NO_LIMIT  # else hypercorn sends its own GOAWAY and loses requests in flight
    return made


CONFIG = config()
CONTEXT = WorkerContext(None)  # one for all connections: nothing is counted in it, and nobody waits for it


class Tasks:
    """Stands for hypercorn's task group, which would swallow errors: these reach the fake."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def spawn(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        self._owner.spawn(partial(function, *args))


def lifespan(app: Any, loop: asyncio.AbstractEventLoop, state: dict[str, Any]) -> Lifespan:
    """Hypercorn's lifespan protocol for an app; apps may not support it."""
    return Lifespan(ASGIWrapper(app), CONFIG, loop, state)
