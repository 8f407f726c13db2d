"""A mail.log of Postfix as `notnow replay` reads it."""

from __future__ import annotations

import io

from notnow.chaos.replay import making
from notnow.chaos.replay.recording import ReplayError
from notnow.language.loading import loads


def one(data: bytes) -> None:
    for in_order in (False, True):
        try:
            made = making.made(io.BytesIO(data), "mail.log", in_order=in_order)
        except ReplayError:
            continue
        loads(made.toml)
