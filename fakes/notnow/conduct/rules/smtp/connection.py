"""Rules about a connection on which the server said 421."""

from __future__ import annotations

from notnow.conduct.finding import NOT_EXERCISED, Finding, broken, held
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.afterwards import content_after, later_words
from notnow.conduct.reading.smtp.delivery import mail
from notnow.conduct.reading.smtp.transactions import Session
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange
from notnow.units import MINUTE, show, times

HUNG = 10 * MINUTE  # the longest time-out of RFC 5321 §4.5.3.2


@rule(
    "smtp.nothing-but-quit",
    title="After a 421 the client sends nothing but QUIT on that connection.",
    level="advice",
    source="RFC 5321 §3.8 (the server closes the channel), §4.1.1.10",
    why="The server closes the channel after a 421. Anything sent later is lost, or is answered by a reset that may destroy the 421 before the client has read it.",
    occasion="the client is told 421",
    proof="the client sends a command other than QUIT on that connection after it could have read the 421",
    innocent="a command that crossed the 421 on the wire; the rest of a pipelined group (RFC 2920), or of a message",
    example="S: 421 4.3.2 Service shutting down\nC: MAIL FROM:<a@client.test>",
)
def nothing_but_quit(run: Run) -> Finding:
    told = 0
    for session in run.once(mail).sessions if run.once(occasions).told_at else ():
        if not session.told:
            continue
        told += len(session.told)
        refusal = session.told[0]
        for moment, words, proof in later_words(session, refusal):
            if moment != "quit":
                return broken(f"{words[:60]!r} was sent after a 421", refusal, proof)
    return held(f"told 421 {times(told)}, and nothing after it but QUIT") if told else NOT_EXERCISED


@rule(
    "smtp.survives-421",
    title="The client copes with a 421 in reply to any command, or an unsolicited one: it neither hangs nor gets out of step with the server.",
    level="must",
    source="RFC 5321 §3.8, §4.3.2",
    why="A client that takes the 421 for the reply to another command sends mail as commands, or waits forever.",
    occasion="the client is told 421, in reply to a command or unsolicited",
    proof="after a 421: a message sent although DATA was refused, or a connection kept open in silence for 10 minutes",
    innocent="a chunk that the client sent together with its BDAT (RFC 3030 §2); a connection that the server closed",
    example="C: DATA\nS: 421 4.3.0 Temporary Error\nC: Subject: hello",
)
def survives(run: Run) -> Finding:
    where: dict[str, None] = {}
    for session in run.once(mail).sessions if run.once(occasions).told_at else ():
        for told in session.told:
            where[told.moment] = None
            if told.moment == "data" and told.code == 421 and (proof := content_after(session, told)):
                return broken("the message was sent after DATA had been answered 421", told, proof)
            if told.end is None and (waited := _hung(session, told)) >= HUNG:
                return broken(f"it was told 421 and did nothing for {show(waited)}", told, session.connection)
    return held(f"421 at {', '.join(where)}") if where else NOT_EXERCISED


def _hung(session: Session, told: Exchange) -> float:
    """Seconds for which the client kept the connection open after a 421 without a command."""
    connection, last = session.connection, session.exchanges[-1]
    if last is not told or connection.left_index is not None:
        return 0.0
    end = connection.closed_at if connection.closed_at is not None else connection.journal.clock.now()
    return end - (told.answered_at if told.answered_at is not None else told.at)
