"""A fault of a sweep: the text of a rule, and the events at which it can act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from msgspec import Struct

from notnow import protocols
from notnow.chaos.steps import Step

Test = Callable[[Step], bool]


class Fault(Struct, frozen=True):
    """A fault of the sweep.

    `keys` are the TOML lines of its rule; `{half}` is half the size of the event. `fits` says at which events it can act,
    and `on` at which moment it acts, if not at the event's own. Where `unless` does not hold, it cannot be told from the
    fault `same_as`, `because` of what the event lacks. `stays`: it also acts at every later event of its kind, until a client
    connects again. `kept`: the server keeps what it refuses, and the client cannot know.
    """

    name: str
    about: str
    keys: str
    fits: Test
    on: str = ""
    unless: Test | None = None
    same_as: str = ""
    because: str = ""
    stays: bool = False
    kept: bool = False

    def differs(self, step: Step) -> bool:
        """False if its effect at this event is that of the fault that it is the `same_as`."""
        return self.unless is None or self.unless(step)


class Answers(Struct, frozen=True):
    """What the server of an invented scenario may answer, the plainest first.

    `now` are refusals for now: a correct client comes back after each of them. `final` are refusals for good. `also` has
    the answers of single moments: two replies, with which the server takes what came and then ends the connection.
    """

    now: tuple[Any, ...]
    final: tuple[Any, ...] = ()
    also: Mapping[str, tuple[Any, ...]] = {}


def at(*moments: str) -> Test:
    return lambda step: step.moment in moments


def everywhere_except(*moments: str) -> Test:
    return lambda step: step.moment not in moments


def can_be_cut(step: Step) -> bool:
    return step.size > 1


HALF = "after_bytes = {half}"
EVERYWHERE = everywhere_except("tls")
HANDSHAKE = (
    Fault("alert", "ends with the alert internal_error", 'alert = "internal_error"', at("tls")),
    Fault("close", "ends with a close", "close = true", at("tls")),
)
SILENT = (
    Fault("close", "gets no reply, and the connection closes", "close = true", EVERYWHERE),
    Fault("reset", "gets no reply but a reset", 'close = "reset"', EVERYWHERE),
    Fault("stall", "never gets a reply", "stall = true", EVERYWHERE),
)


# In the words of RFC 5321 §4.2.2 and RFC 959 §4.2, for a protocol that has no words of its own here; RFC 9110 §15.6.4.
REFUSALS = {
    "reply": Answers(("421 Service not available, closing transmission channel", "451 Requested action aborted")),
    "status": Answers((421, 503)),
}


def only_if(unless: Test, same_as: str, because: str) -> Mapping[str, Any]:
    return {"unless": unless, "same_as": same_as, "because": because}


def cut(same_as: str) -> Mapping[str, Any]:
    return only_if(can_be_cut, same_as, "there are no two bytes to cut")


def of_protocol(protocol: str) -> tuple[Fault, ...]:
    """The faults of a protocol, in the order of the columns; for one that has none of its own, those without words."""
    module = protocols.get(protocol).faults
    found: tuple[Fault, ...] = import_module(module).FAULTS if module is not None else SILENT
    return found


def answers(protocol: str) -> Answers:
    """What the server of an invented scenario may answer over this protocol."""
    record = protocols.get(protocol)
    found: Answers = import_module(record.faults).ANSWERS if record.faults is not None else REFUSALS[record.answer]
    return found


def names(protocol: str) -> list[str]:
    """The names of its faults, each once, in the order of the columns."""
    return list(dict.fromkeys(fault.name for fault in of_protocol(protocol)))
