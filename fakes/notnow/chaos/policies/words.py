"""The words of the text of a policy: what each of them stands for, and its parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Literal, NamedTuple

from notnow.chaos.policies.guards import Breaker, Budget, RetryThrottling, Throttle, Tokens
from notnow.chaos.policies.stops import Attempts, Within
from notnow.chaos.policies.values import COUNT, DURATION, FACTOR, JITTER, POSITIVE, RATE, SHARE, SPAN, Parameter
from notnow.chaos.policies.waits import Constant, Exponential, Linear, Listed


class Heeds:
    """RFC 9110 §10.2.3. SMTP and FTP have no such word."""


Role = Literal["wait", "stop", "guard", "heeds"]


class Word(NamedTuple):
    """A word: what it adds to a policy, what makes it of its values, and what it does, for readers.

    `many`: it takes any number of values of its one parameter.
    """

    role: Role
    make: Callable[..., Any]
    parameters: tuple[Parameter, ...]
    doc: str
    many: bool = False

    @property
    def source(self) -> str:
        """The formula and where it comes from: the first paragraph about the class that the word makes."""
        return (self.make.__doc__ or "").split("\n\n")[0] if isinstance(self.make, type) else ""


WORDS: Mapping[str, Word] = {
    "constant": Word("wait", Constant, (Parameter("wait", DURATION),), "the same wait each time"),
    "linear": Word(
        "wait", Linear,
        (Parameter("base", DURATION), Parameter("step", DURATION), Parameter("cap", SPAN, inf)),
        "a wait that grows by a step",
    ),
    "exponential": Word(
        "wait", Exponential,
        (
            Parameter("base", DURATION), Parameter("factor", FACTOR, 2.0), Parameter("cap", SPAN, inf),
            Parameter("jitter", JITTER, "none"),
        ),
        "a wait that grows by a factor; jitter is none, full, equal or decorrelated",
    ),
    "waits": Word("wait", Listed, (Parameter("wait", DURATION),), "these waits in turn, the last one again and again", many=True),
    "attempts": Word("stop", Attempts, (Parameter("most", COUNT),), "give up after this many attempts, the first included"),
    "within": Word("stop", Within, (Parameter("most", SPAN),), "give up this long after the first attempt"),
    "budget": Word(
        "guard", Budget, (Parameter("ratio", SHARE), Parameter("most", POSITIVE, 10.0)),
        "a retry budget: each new item pays a share, each retry takes 1; without budget, give up",
    ),
    "grpc": Word(
        "guard", RetryThrottling, (Parameter("most", POSITIVE, 10.0), Parameter("ratio", SHARE, 0.1)),
        "gRPC's retry throttling: no retry while half of the tokens are gone",
    ),
    "breaker": Word(
        "guard", Breaker, (Parameter("failures", COUNT, 5), Parameter("open", SPAN, 60.0)),
        "a circuit breaker: after failures in a row, attempts fail at once; then one is let through",
    ),
    "tokens": Word(
        "guard", Tokens, (Parameter("rate", RATE), Parameter("burst", COUNT, 1)),
        "a token bucket: attempts at a rate at most",
    ),
    "throttle": Word(
        "guard", Throttle, (Parameter("k", POSITIVE, 2.0), Parameter("window", SPAN, 120.0)),
        "client-side throttling: refuse your own attempts as the server refuses them",
    ),
    "retry_after": Word("heeds", Heeds, (), "wait at least as long as Retry-After says"),
}  # fmt: skip
