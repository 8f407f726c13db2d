"""The table `[expect]`: what a well-behaved client achieves."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema

from notnow.language import limits
from notnow.language.values import Count, Duration, Table, choice_of, refuse

SHAPES = ("constant", "linear", "exponential")  # of a back-off


def _code(value: object) -> int:
    low, high = limits.CODES
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    raise refuse(f"the code of a reply that refuses, from {low} to {high}, such as 421")


RefusalCode = Annotated[
    int,
    BeforeValidator(_code),
    WithJsonSchema({"type": "integer", "minimum": limits.CODES[0], "maximum": limits.CODES[1]}),
]


class Delivered(Table):
    """Each message is stored, and each file comes through whole, no more and no less often."""

    times: Count = Field(default=1, description="So many copies of each.")


class Retried(Table):
    """The client comes back after a refusal."""

    times: Count | None = Field(default=None, description="At least so often.")
    within: Duration | None = Field(default=None, description="So soon after the first refusal.")
    first_delay: Duration | None = Field(
        default=None, description="It waits at least so long before it first comes back."
    )
    backoff: Annotated[str, BeforeValidator(choice_of(*SHAPES)), WithJsonSchema({"enum": list(SHAPES)})] | None = Field(
        default=None, description="How its waits grow."
    )


class Exceeded(Table):
    """A cap that the client keeps to."""

    connections: Count = Field(description="So many connections at a time, refused ones counted.")


class Expect(Table):
    """What a well-behaved client achieves: the assertions, without `assert_`."""

    delivered: Delivered | None = Field(
        default=None,
        description="Each message is stored, each file comes through whole, each request gets a good answer, so many times.",
    )
    retried: Retried | None = Field(default=None, description="The client tries again, so often and with such delays.")
    no_duplicates: bool | None = Field(default=None, description="No message or file is stored twice.")
    no_partial_files: bool | None = Field(
        default=None, description="Every file that was uploaded is whole in the end. FTP only."
    )
    new_connection_after: RefusalCode | None = Field(
        default=None, description="After a reply with this code the client comes back on another connection."
    )
    sni_matches_authority: bool | None = Field(
        default=None, description="Every request is for the host that its connection was made for. HTTP only."
    )
    not_coalesced: bool | None = Field(
        default=None, description="No connection carries requests for more than one host. HTTP only."
    )
    retry_after_honoured: bool | None = Field(
        default=None, description="No request comes back sooner than Retry-After has said. HTTP only."
    )
    body_replayed: bool | None = Field(
        default=None, description="A request that comes back has its whole body again. HTTP only."
    )
    never_exceeded: Exceeded | None = Field(
        default=None, description="At most so many connections at a time, refused ones counted."
    )
    gave_up: Duration | None = Field(
        default=None,
        description="The client tries for so long after its first refusal, to one interval, and then no more.",
    )
