"""Guards: what keeps one client from asking, whatever its waits say. Each client has its own, with its own state.

Before each attempt a client asks `hold`, without effect; if no guard holds it, it says `goes`, and then what became of it.
"""

from __future__ import annotations

from math import exp
from random import Random
from typing import Literal

from msgspec import Struct

Why = Literal["later", "failed", "given up"]


class Hold(Struct, frozen=True):
    """A client does not ask now. `later`: it looks again after so many seconds. `failed`: it waits as after a failed attempt."""

    why: Why
    seconds: float = 0.0


FAILED, GIVEN_UP = Hold("failed"), Hold("given up")


class Guard:
    """Holds nothing. Times are in seconds of scenario time."""

    def hold(self, now: float, retry: bool, rng: Random) -> Hold | None:  # noqa: ARG002
        """Whether the client is held now; None lets it go. `retry` is False for the first attempt for an item."""
        return None

    def goes(self, now: float, retry: bool) -> None:
        """The client asks."""

    def told(self, now: float, ok: bool) -> None:
        """The client has its answer, or does not wait for it any more."""


class Budget(Guard):
    """Retries are a share of what is new: Finagle's `RetryBudget` and "Addressing Cascading Failures" in Google's SRE book.

    Each new item pays `ratio` into the budget, each retry takes 1 out of it; it begins with `most`, and holds no more. A
    client without budget gives the item up.
    """

    def __init__(self, ratio: float, most: float) -> None:
        self.ratio, self.most, self.left = ratio, most, most

    def hold(self, now: float, retry: bool, rng: Random) -> Hold | None:  # noqa: ARG002
        return GIVEN_UP if retry and self.left < 1 else None

    def goes(self, now: float, retry: bool) -> None:  # noqa: ARG002
        self.left = self.left - 1 if retry else min(self.most, self.left + self.ratio)


class RetryThrottling(Guard):
    """gRPC's retry throttling (proposal A6): a failure takes a token, a success gives `ratio` of one back.

    With half of the `most` tokens or fewer, a client does not retry.
    """

    def __init__(self, most: float, ratio: float) -> None:
        self.most, self.ratio, self.left = most, ratio, most

    def hold(self, now: float, retry: bool, rng: Random) -> Hold | None:  # noqa: ARG002
        return GIVEN_UP if retry and self.left <= self.most / 2 else None

    def told(self, now: float, ok: bool) -> None:  # noqa: ARG002
        self.left = min(self.most, self.left + self.ratio) if ok else max(0.0, self.left - 1)


class Breaker(Guard):
    """A circuit breaker (Nygard, "Release It!"): open after so many failures in a row, for `open` seconds; then half-open.

    While it is open, attempts fail at once. Half-open lets one through: its success closes the breaker, its failure opens it
    again.
    """

    def __init__(self, failures: int, open: float) -> None:
        self.failures, self.open = failures, open
        self.row, self.until, self.probing = 0, 0.0, False

    def hold(self, now: float, retry: bool, rng: Random) -> Hold | None:  # noqa: ARG002
        if self.row < self.failures:
            return None
        return FAILED if now < self.until or self.probing else None

    def goes(self, now: float, retry: bool) -> None:  # noqa: ARG002
        self.probing = self.row >= self.failures

    def told(self, now: float, ok: bool) -> None:
        self.row, self.probing = 0 if ok else self.row + 1, False
        if self.row >= self.failures:
            self.until = now + self.open


class Tokens(Guard):
    """A token bucket: attempts at `rate` a second at most, and `burst` at once (RFC 2697 has it for packets)."""

    def __init__(self, rate: float, burst: float) -> None:
        self.rate, self.burst, self.left, self.at = rate, burst, burst, 0.0

    def hold(self, now: float, retry: bool, rng: Random) -> Hold | None:  # noqa: ARG002
        self.left, self.at = min(self.burst, self.left + (now - self.at) * self.rate), now
        missing = 1 - self.left
        return Hold("later", missing / self.rate) if missing > 1e-9 else None

    def goes(self, now: float, retry: bool) -> None:  # noqa: ARG002
        self.left -= 1


class Throttle(Guard):
    """Client-side throttling: "Handling Overload" in Google's SRE book.

    A client refuses its own attempt with the chance `max(0, (requests - k · accepts) / (requests + 1))`, of what it has asked
    and what was accepted lately: counts fade with a time constant of `window` seconds, the book's two minutes.
    """

    def __init__(self, k: float, window: float) -> None:
        self.k, self.window = k, window
        self.requests = self.accepts = self.at = 0.0

    def hold(self, now: float, retry: bool, rng: Random) -> Hold | None:  # noqa: ARG002
        self._fade(now)
        chance = (self.requests - self.k * self.accepts) / (self.requests + 1)
        if rng.random() >= chance:
            return None
        self.requests += 1
        return FAILED

    def goes(self, now: float, retry: bool) -> None:  # noqa: ARG002
        self._fade(now)
        self.requests += 1

    def told(self, now: float, ok: bool) -> None:
        self._fade(now)
        self.accepts += ok

    def _fade(self, now: float) -> None:
        left = exp((self.at - now) / self.window)
        self.requests, self.accepts, self.at = self.requests * left, self.accepts * left, now
