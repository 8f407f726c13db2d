"""`FastForward` outside of pytest: makes the waits of a block take scenario time. See `notnow.time_travel.fast_forward`."""

from __future__ import annotations

from notnow.time_travel.fast_forward import FastForward, FastForwardWarning

__all__ = ["FastForward", "FastForwardWarning"]
