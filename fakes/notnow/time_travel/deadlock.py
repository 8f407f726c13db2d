"""The report of a deadlock: every thread waits, and no event will end a wait."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from notnow.time_travel.bystanders import thread_of
from notnow.time_travel.frames import current_frames
from notnow.time_travel.parties import Party
from notnow.units import show

_OURS = str(Path(__file__).parent)
LINES = 12  # frames of each thread, the innermost


def story(parked: Sequence[Party], now: float) -> str:
    """The position of each waiting thread."""
    frames = current_frames()
    stacks = "\n\n".join(f"{party.name} waits here:\n{_stack(frames.get(party.ident))}" for party in parked)
    others = [thread for ident in frames if (thread := thread_of(ident)) is not None and thread.daemon is False]
    waiting = {party.ident for party in parked}
    real = ", ".join(thread.name for thread in others if thread.ident not in waiting)
    return (
        f"deadlock at {show(now)} of scenario time: every thread waits, and nothing is due that could end it; "
        "give one of these waits a time-out, or do what it waits for"
        + (f" (threads that take no part: {real})" if real else "")
        + f"\n\n{stacks}"
    )


def _stack(frame: FrameType | None) -> str:
    seen = [entry for entry in traceback.extract_stack(frame) if not entry.filename.startswith(_OURS)] if frame else []
    return "".join(traceback.format_list(seen[-LINES:])).rstrip()
