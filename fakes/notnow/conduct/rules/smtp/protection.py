"""Rules about TLS: that a refusal does not lead to clear text, and that certificates are verified."""

from __future__ import annotations

from typing import NamedTuple

from notnow.conduct.finding import NOT_EXERCISED, Evidence, Finding, broken, held, inconclusive
from notnow.conduct.reading.occasions import occasions
from notnow.conduct.reading.run import Run
from notnow.conduct.reading.smtp.delivery import mail
from notnow.conduct.reading.smtp.endings import ending_of
from notnow.conduct.reading.smtp.transactions import Session
from notnow.conduct.rules.certificates import faults, without_occasion
from notnow.conduct.rules.rule import rule
from notnow.journal import Exchange, Journal


@rule(
    "smtp.no-downgrade",
    title="After a 421 the client falls back neither from EHLO to HELO nor from TLS to clear text.",
    level="advice",
    source="RFC 5321 §3.2 (HELO is for servers that do not know EHLO); RFC 7435 §3",
    why="A busy server is not an old server. If clients downgraded, an attacker could read mail by refusing one connection.",
    occasion="EHLO is answered 421; TLS, or a command inside TLS, fails",
    proof="HELO follows, or MAIL in clear text: on that connection, or on another with the same name in its EHLO",
    innocent="another client at the same address, with another name in its EHLO",
    example="C: EHLO client.test\nS: 421 4.3.2 Service not available\nC: HELO client.test",
)
def no_downgrade(run: Run) -> Finding:
    seen = run.once(occasions)
    if not seen.tls and seen.faulty.isdisjoint({"ehlo", "starttls", "tls"}):
        return NOT_EXERCISED
    clients: dict[tuple[Journal, str], _Client] = {}
    unclear: Finding | None = None
    for session in run.once(mail).sessions:
        key = session.connection.journal, session.client
        client = clients.get(key) or clients.setdefault(key, _Client())
        finding = client.reads(session)
        if finding is not None and finding.outcome == "broken":
            return finding
        unclear = unclear or finding
    exercised = any(client.exercised for client in clients.values())
    return unclear or (held("neither to HELO nor to clear text") if exercised else NOT_EXERCISED)


class _Secret(NamedTuple):
    """TLS, or a command inside TLS, that has failed, and the name by which the client had called itself."""

    session: Session
    name: str
    proof: Evidence


class _Client:
    """Looks for a downgrade in the sessions of one client at one server, in order."""

    def __init__(self) -> None:
        self.exercised = False
        self.greeted: Exchange | None = None  # the EHLO that was answered 421
        self.secret: _Secret | None = None
        self.name = ""

    def reads(self, session: Session) -> Finding | None:
        self.name = ""
        unclear: Finding | None = None
        for x in session.exchanges:
            if self.greeted is not None or self.secret is not None:
                finding = self._judged(session, x)
                if finding is not None and finding.outcome == "broken":
                    return finding
                unclear = unclear or finding
            self._learn(session, x)
        tls = session.connection.tls
        if tls is not None and tls.error is not None:
            self._failed(session, session.connection)
        return self._afterwards(session) or unclear

    def _judged(self, session: Session, x: Exchange) -> Finding | None:
        verb = x.request[:4].upper()
        if verb == "HELO" and self.greeted is not None:
            why = "HELO was sent after EHLO had been answered 421"
            if x.connection is self.greeted.connection or _name(x) == _name(self.greeted):
                return broken(why, self.greeted, x)
            return inconclusive(f"{why}, with another name", "a single client at an address", self.greeted, x)
        if verb == "MAIL" and self.secret is not None and not _encrypted(session, x):
            why = "mail came in clear text after TLS had failed"
            if self.secret.session is session or self.secret.name == self.name != "":
                return broken(why, self.secret.proof, x)
            settled_by = "an EHLO with the client's name before TLS"
            return inconclusive(f"{why}, from this client or another at its address", settled_by, self.secret.proof, x)
        return None

    def _learn(self, session: Session, x: Exchange) -> None:
        if x.moment == "ehlo":
            self.name = _name(x)
            if x.request[:4].upper() == "EHLO":
                self.greeted = x if 421 in x.codes and x.fault is not None else None
                self.exercised = self.exercised or self.greeted is not None
        if x.fault is not None and (x.moment in ("starttls", "tls") or _encrypted(session, x)) and _fails(x):
            self._failed(session, x)

    def _failed(self, session: Session, proof: Evidence) -> None:
        self.secret = self.secret or _Secret(session, self.name, proof)
        self.exercised = True

    def _afterwards(self, session: Session) -> Finding | None:
        """What the client said after the close, or while the fake stalled."""
        connection, greeted, secret = session.connection, self.greeted, self.secret
        if not connection.after and not connection.unread:
            return None
        verbs = {line[:4].upper() for line in f"{connection.unread}\n{connection.after}".splitlines()}
        if "HELO" in verbs and greeted is not None and greeted.connection is connection:
            return broken("HELO was sent after EHLO had been answered 421", greeted, connection)
        if "MAIL" in verbs and secret is not None and secret.session is session and session.encrypted_from is None:
            return broken("mail came in clear text after TLS had failed", secret.proof, connection)
        return None


def _name(x: Exchange) -> str:
    """The name that a client gives itself in EHLO or HELO."""
    return x.request[4:].strip().lower()


def _fails(x: Exchange) -> bool:
    return ending_of(x) in ("deferred", "unanswered") and not (x.end is not None and x.stopped)


def _encrypted(session: Session, x: Exchange) -> bool:
    return session.encrypted_from is not None and x.index >= session.encrypted_from


@rule(
    "smtp.verifies-certificate",
    title="A client that submits mail in TLS does not go on after a certificate that it must not trust.",
    level="must",
    source="RFC 8314 §5.3 (implicit TLS); RFC 7435 §3 (opportunistic TLS need not verify)",
    why="An attacker in the server's place can read the mail and the password.",
    occasion="the client is shown a certificate that is expired, of an unknown CA, incomplete, or for another name",
    proof="the client goes on to EHLO in implicit TLS (RFC 8314 §3.3), which only clients that want TLS use",
    innocent="STARTTLS: a client that uses TLS only where a server offers it need not verify certificates; QUIT by a client that looks at the certificate after the handshake",
    example="S: (shows an expired certificate, in implicit TLS)\nC: EHLO client.test",
)
def verifies(run: Run) -> Finding:
    if not any(connection.tls and connection.tls.defects for connection in run.once(occasions).tls):
        return without_occasion(run)
    refused: Evidence | None = None
    unclear: Finding | None = None
    for session in run.once(mail).sessions:
        tls = session.connection.tls
        if tls is None or not tls.defects:
            continue
        why = f"it went on after a certificate that {faults(tls)}"
        went_on = session.first_in_tls
        if session.rejected_certificate:
            refused = session.connection
        elif went_on is not None and not any(x.moment == "starttls" for x in session.exchanges):
            return broken(why, session.connection, went_on)
        elif went_on is not None:
            unclear = unclear or inconclusive(f"{why}, after STARTTLS", "implicit TLS", session.connection, went_on)
    return unclear or (held("it refused the certificate", refused) if refused is not None else without_occasion(run))
