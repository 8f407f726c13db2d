"""Rules of conduct for SMTP clients."""

from __future__ import annotations

from notnow.conduct.rules import NOT_EXERCISED, Finding, Rule, Run, broken, held
from notnow.units import show

AT_ONCE = 1.0  # seconds within which a new attempt is no delay at all


def _nothing_but_quit(run: Run) -> Finding:
    told = [x for x in run.refusals if x.code == 421 or 421 in x.codes]
    for refusal in told:
        for later in run.after(refusal):
            if later.moment != "quit":
                return broken(f"{later.request!r} was said after a 421", refusal, later)
    return held(f"{len(told)} times 421") if told else NOT_EXERCISED


def _waits(run: Run) -> Finding:
    if not run.retries:
        return NOT_EXERCISED
    soonest = min(run.retries, key=lambda retry: retry.delay)
    if soonest.delay < AT_ONCE:
        return broken(f"it came back {show(soonest.delay)} after it was refused", soonest.refusal, soonest.attempt)
    return held(f"it waited at least {show(soonest.delay)}")


RULES: tuple[Rule, ...] = (
    Rule(
        id="smtp.nothing-but-quit",
        title="After a 421 the client says at most QUIT on that connection.",
        level="advice",
        source="RFC 5321 §3.8 (the server closes the channel), §4.1.1.10",
        why="The server has said its last word: what is sent then is lost, or answered by a reset that may take the 421 with it.",
        observed="commands other than QUIT that come on a connection after a 421",
        example="S: 421 4.3.2 Service shutting down\nC: MAIL FROM:<a@client.test>",
        judge=_nothing_but_quit,
    ),
    Rule(
        id="smtp.wait-before-retry",
        title="The client waits before it tries the same server again.",
        level="must",
        source="RFC 5321 §4.5.4.1",
        why="Who comes back at once, again and again, keeps a server overloaded that has asked for time.",
        observed="the time from a refusal to the next attempt of the same client at the same server",
        example="S: 421 4.3.2 All server ports are busy   (0 s)\nC: connects again                          (3 ms)",
        judge=_waits,
    ),
)
