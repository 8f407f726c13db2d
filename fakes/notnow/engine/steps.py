"""Compiles a rule into steps: the actions of a fake when the rule fires, in order."""

from __future__ import annotations

from collections.abc import Callable

from notnow.engine.actions import (
    Action,
    Alert,
    AltSvc,
    Certify,
    Close,
    EndData,
    GoAway,
    Hang,
    Origin,
    Proceed,
    ResetStream,
    Respond,
    Response,
    Send,
    Wait,
    Watch,
)
from notnow.language import knobs
from notnow.language.faults import GOES_ON
from notnow.language.grammar import Rule
from notnow.language.replies import preliminary
from notnow.protocols.moment import Moment

PlaceholderText = Callable[[str], str]
ABORTED = ("426 Connection closed; transfer aborted.",)  # RFC 959 §4.2.1


def takes_effect(rule: Rule, moment: Moment) -> bool:
    """True if the command or request takes effect: with a 2yz or 3yz reply, unless `keep` says otherwise."""
    if rule.keep is not None:
        return rule.keep
    final = preliminary(rule.reply)[1]
    if final is not None:
        return final[0][0] in "23"
    if rule.status is not None:
        return rule.status < 400
    refuses = rule.close or rule.stall or rule.alert or rule.reset_stream or _cuts(rule, moment)
    return not (refuses or (rule.goaway is not None and rule.goaway.last == "previous"))


def _cuts(rule: Rule, moment: Moment) -> bool:
    """True if the rule ends a transfer that is about to begin, or in progress."""
    return rule.data is not None and rule.data not in GOES_ON and (moment.lasts or moment.amid)


def _closing(rule: Rule, moment: Moment) -> Close | None:
    """A 421 closes unless the rule says otherwise (RFC 5321 §3.8), and so does a status for the whole connection."""
    says_421 = any(line[:4] in ("421 ", "421") for line in rule.reply or ())
    close = says_421 or (moment.final and rule.status is not None) if rule.close is None else rule.close
    if not close:
        return None
    return Close("reset" if close == "reset" else "abrupt" if close == "abrupt" else "fin")


def is_deferred(rule: Rule, moment: Moment) -> bool:
    """True if the fault waits for a byte in the middle of a body or a transfer."""
    return moment.body or rule.after_bytes is not None


def steps_of(rule: Rule, moment: Moment) -> tuple[Action, ...]:
    """The steps of a rule. A delay holds back the answer; if there is one, frames do not wait for it."""
    first, reply = preliminary(rule.reply)
    said: list[Action] = [Send(first, rule.drip or 0.0)] if first else []
    wait: list[Action] = [Wait(rule.delay)] if rule.delay else []
    frames, rest = _frames(rule), _answer(rule, moment, reply)
    return tuple([*said, *frames, *wait, *rest] if rest and not moment.unasked else [*said, *wait, *frames, *rest])


def _answer(rule: Rule, moment: Moment, reply: tuple[str, ...] | None) -> list[Action]:
    """The steps that replace the healthy answer or go with it; empty if there is no answer.

    `reply` are the lines that come after the delay.
    """
    steps: list[Action] = []
    drip, closing, effect = rule.drip or 0.0, _closing(rule, moment), takes_effect(rule, moment)
    # The reply answers no command that could take effect: send it as it is.
    interjected = moment.unasked or is_deferred(rule, moment)
    if rule.certificate:
        steps.append(Certify(rule.certificate))
    if rule.alert:
        steps.append(Alert(rule.alert))
    steps += _end_data(rule, moment, cut=interjected or not effect)
    response = _response(rule)
    if rule.stall:
        steps.append(Hang())
    elif effect and not (interjected and (reply or response or closing or rule.reset_stream)):
        steps.append(Proceed(reply or response or (() if closing or rule.reset_stream else None), drip))
    elif reply is not None:
        steps.append(Send(reply, drip))
    elif response is not None:
        steps.append(Respond(response, drip))
    elif _cuts(rule, moment) and not closing:
        steps.append(Send(ABORTED, drip))
    if rule.reset_stream is not None:
        steps.append(ResetStream(rule.reset_stream))
    if closing:
        steps.append(closing)
    return steps


def _response(rule: Rule) -> Response | None:
    """The HTTP response of a rule, or the parts that it sets; None if it sets none."""
    if rule.status is None and rule.headers is None and rule.body is None:
        return None
    return Response(rule.status, rule.headers or (), rule.body)


def _frames(rule: Rule) -> list[Action]:
    """The HTTP/2 frames that go before an answer."""
    found: list[Action] = []
    if rule.altsvc is not None:
        found.append(AltSvc(rule.altsvc))
    if rule.origin is not None:
        found.append(Origin(rule.origin))
    if rule.goaway is not None:
        found.append(GoAway(rule.goaway.code, rule.goaway.last, closes=rule.close is not False))
    return found


def _end_data(rule: Rule, moment: Moment, cut: bool) -> list[Action]:
    """A transfer that is refused or cut ends its data connection, and so does a rule with `data`."""
    if moment.ends:
        refused = rule.keep is None and (preliminary(rule.reply)[1] or ("2",))[0][0] not in "23"
        return [EndData(keep=False)] if refused or rule.keep is False else []
    transfer = moment.lasts or moment.amid
    if "data" not in moment.faults or rule.stall or not (rule.data or (transfer and cut)):
        return []
    return [EndData(rule.data or "fin", keep=rule.keep is not False)]


def watch(rule: Rule) -> tuple[Action, ...]:
    """The first half of a deferred fault: behave, and watch for the byte."""
    return (Watch(1 if rule.after_bytes is None else rule.after_bytes), Proceed())


def filled(steps: tuple[Action, ...], text: PlaceholderText) -> tuple[Action, ...]:
    """Steps with their placeholders filled in."""
    return tuple(_fill(step, text) for step in steps)


def _fill(step: Action, text: PlaceholderText) -> Action:
    match step:
        case Send(lines, drip):
            return Send(tuple(knobs.render(line, text) for line in lines), drip)
        case Proceed(tuple(lines), drip):
            return Proceed(tuple(knobs.render(line, text) for line in lines), drip)
        case Proceed(Response() as response, drip):
            return Proceed(_fill_response(response, text), drip)
        case Respond(response, drip):
            return Respond(_fill_response(response, text), drip)
        case AltSvc(value):
            return AltSvc(knobs.render(value, text))
        case Origin(origins):
            return Origin(tuple(knobs.render(origin, text) for origin in origins))
        case _:
            return step


def _fill_response(response: Response, text: PlaceholderText) -> Response:
    headers = tuple((name, knobs.render(value, text)) for name, value in response.headers)
    return Response(response.status, headers, None if response.body is None else knobs.render(response.body, text))
