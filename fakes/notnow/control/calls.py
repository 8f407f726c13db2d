"""The table of calls: `@call` puts a function into it, with what its parameters and its result say.

`name`, `path` and `index` stand in the path of the call; `query` and `body` are models; `asked` is the query as it came, and
`headers` those of the request. The result is a model, a `Content`, a `Stream` or None. A coroutine runs in the loop of the API,
a plain function in a thread. A call that is `long` reads whole journals.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any, get_type_hints

from pydantic import BaseModel

MEDIA_TYPES = {
    "json": "application/json",
    "text": "text/plain; charset=utf-8",
    "junit": "application/xml",
    "markdown": "text/markdown; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "jsonl": "text/plain; charset=utf-8",  # JSON Lines have no registered type, and generators of clients know those only
    "state": "application/json",
    "bytes": "application/octet-stream",
    "events": "text/event-stream",
}


@dataclass(frozen=True, slots=True)
class Content:
    """An answer that no model describes: bytes or a text of this media type; `status` is another than the call's."""

    media_type: str
    content: bytes | str
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer that goes on: server-sent events."""

    pieces: AsyncGenerator[str]


Answer = BaseModel | Content | Stream | None
Handler = Callable[..., Answer | Coroutine[Any, Any, Answer]]


@dataclass(frozen=True, slots=True)
class Call:
    """A call: `status` is that of a good answer, `errors` those of problems; `media` the types of other answers than JSON."""

    method: str
    path: str
    handler: Handler
    status: int
    errors: tuple[int, ...]
    media: tuple[str, ...]
    query: type[BaseModel] | None
    body: type[BaseModel] | None
    answer: type[BaseModel] | None
    takes: frozenset[str]
    long: bool

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters in its path."""
        return re.findall(r"\{(\w+)", self.path)

    @property
    def about(self) -> tuple[str, str]:
        """Its first sentence, and the rest."""
        first, _, rest = cleandoc(self.handler.__doc__ or "").partition("\n\n")
        return " ".join(first.split()), rest


CALLS: list[Call] = []


def call(
    method: str,
    path: str,
    *,
    status: int = 200,
    errors: tuple[int, ...] = (),
    media: tuple[str, ...] = (),
    answer: type[BaseModel] | None = None,
    long: bool = False,
) -> Callable[[Handler], Handler]:
    """Put a function into the table. `answer` is the model of its JSON, if its result does not say it."""

    def put(handler: Handler) -> Handler:
        hints = get_type_hints(handler)
        returned = hints["return"]
        CALLS.append(
            Call(
                method,
                path,
                handler,
                status,
                errors,
                media,
                hints.get("query"),
                hints.get("body"),
                returned if isinstance(returned, type) and issubclass(returned, BaseModel) else answer,
                frozenset(hints),
                long,
            )
        )
        return handler

    return put
