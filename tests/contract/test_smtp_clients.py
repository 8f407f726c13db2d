"""Stock clients meet the catalogue: what they say of a refusal, and that they get through when it is over.

What the tables hold was seen of smtplib (CPython 3.11), aiosmtplib 5.1, curl 7.88, msmtp 1.8.23 and swaks 2020.
A client without a word of its own may say what it likes, but not that it has sent the mail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from smtp_clients import CLIENTS, EVERYBODY, SENT, Job, attempt
from tables import Row, pairs, read

from notnow import FakeSMTP, ManualClock, RealClock

if TYPE_CHECKING:
    from clients import Client, Encryption
    from coverage_table import Proves

LATER = "10m"  # when the clients try again: by then what passes has passed


def encryption(row: Row, attempt: int) -> Encryption:
    return cast("Encryption", row.way_of(attempt))


# ---- refused, and sent later ------------------------------------------------------------------------

# The recipients are two: `stage=rcpt` refuses the first of them, and `n=2` the second.
# curl needs several waits for a greylist, which test_smtp_sessions.py shows.
# swaks 2020 looks at who has signed a certificate, and not at whom it is for.
REFUSED = """
scenario and knobs                 |way      |at             |smtplib                 |aiosmtplib              |curl|msmtp|swaks
overload                           |none     |connect 421    |ConnectError 421        |ConnectResponseError 421|8   |76   |21
overload like=haraka               |none     |connect 421    |ConnectError 421        |ConnectResponseError 421|8   |76   |21
yahoo-tss04                        |none     |connect 421    |ConnectError 421        |ConnectResponseError 421|8   |76   |21
weather chance=100%                |none     |connect 421    |ConnectError 421        |ConnectResponseError 421|8   |76   |21
flapping-overload down=30s up=50s  |none     |connect 421    |ConnectError 421        |ConnectResponseError 421|8   |76   |21
haraka-deny                        |none     |connect 421    |ConnectError 421        |ConnectResponseError 421|8   |76   |21
ip-blocked                         |none     |connect 451    |ConnectError 451        |ConnectResponseError 451|8   |76   |21
bare-close                         |none     |connect close  |ServerDisconnected      |ConnectError            |56  |76   |6
bare-close how=reset               |none     |connect close  |                        |                        |    |     |
at-stage stage=ehlo                |none     |ehlo 421       |ServerDisconnected      |HeloError 421           |56  |76   |6
at-stage stage=ehlo like=bare      |none     |ehlo 421       |ServerDisconnected      |HeloError 421           |56  |76   |6
bare-close stage=ehlo              |none     |ehlo close     |ServerDisconnected      |ServerDisconnected      |56  |76   |6
at-stage stage=mail                |none     |mail 421       |SenderRefused 421       |SenderRefused 421       |55  |69   |23
at-stage stage=mail like=multiline |none     |mail 421       |SenderRefused 421       |SenderRefused 421       |55  |69   |23
outlook-rp-001                     |none     |mail 421       |SenderRefused 421       |SenderRefused 421       |55  |69   |23
at-stage stage=rcpt                |none     |rcpt 421       |RecipientsRefused 421   |ServerDisconnected      |55  |69   |6
at-stage stage=rcpt n=2            |none     |rcpt 421       |RecipientsRefused 421   |ServerDisconnected      |55  |69   |6
bare-close stage=rcpt              |none     |rcpt close     |ServerDisconnected      |ServerDisconnected      |56  |76   |6
dns-blocklist                      |none     |rcpt 421       |RecipientsRefused 421   |ServerDisconnected      |55  |69   |6
greylisting                        |none     |rcpt 451       |RecipientsRefused 451   |RecipientsRefused 451   |-   |69   |24
shutdown                           |none     |enter 421      |RecipientsRefused 421   |                        |55  |69   |6
at-stage stage=data                |none     |data 421       |DataError 421           |DataError 421           |55  |69   |25
at-stage stage=body                |none     |body 421       |DataError 421           |DataError 421           |8   |69   |26
at-stage stage=message             |none     |message 421    |DataError 421           |DataError 421           |8   |69   |26
bare-close stage=message           |none     |message close  |ServerDisconnected      |ServerDisconnected      |56  |76   |6
bare-close stage=message how=reset |none     |message close  |ServerDisconnected      |ServerDisconnected      |56  |74   |6
tls-required                       |none>must|mail 530       |SenderRefused 530       |SenderRefused 530       |55  |65   |23
tls-required like=gmail stage=rcpt |none>must|rcpt 421       |RecipientsRefused 421   |ServerDisconnected      |55  |69   |6
starttls-refused                   |must     |starttls 454   |ResponseException 454   |ResponseException 454   |64  |76   |29
starttls-refused like=starttls-421 |must     |starttls 421   |ResponseException 421   |ResponseException 421   |64  |76   |29
starttls-refused like=starttls-421 |may      |starttls 421   |ResponseException 421   |ResponseException 421   |56  |-    |6
untrusted-certificate              |must     |shown untrusted|SSLCertVerificationError|SSLCertVerificationError|60  |69   |29
untrusted-certificate mode=implicit|implicit |shown untrusted|SSLCertVerificationError|ConnectError            |60  |69   |29
expired-certificate                |must     |shown expired  |SSLCertVerificationError|SSLCertVerificationError|60  |69   |29
wrong-certificate                  |must     |shown wrong    |SSLCertVerificationError|SSLCertVerificationError|60  |69   |-
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("smtp", REFUSED), CLIENTS.values()))
def test_is_refused_and_gets_through_later(row: Row, client: Client[Job], proves: Proves) -> None:
    with FakeSMTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        report = attempt(client, fake, encryption(row, 0))

        assert report.said != SENT, report.text
        assert report.said == row.says.get(client.name, report.said), report.text
        assert_refused(fake, row.at)
        assert fake.messages == []
        assert fake.journal.count("connect") == 1, f"{client.name} has never been seen to try again by itself"

        fake.clock.advance(LATER)
        report = attempt(client, fake, encryption(row, 1))

        assert report.said == SENT, report.text
        assert_arrived(fake)
        fake.assert_expected()
        proves(row.scenario, client.name)


def assert_refused(fake: FakeSMTP, at: str) -> None:
    """The journal has that refusal, and only that one; or the client has turned away from that certificate."""
    where, how = at.split()
    if where == "shown":
        assert [c.tls and c.tls.certificate for c in fake.journal.connections] == [how]
        assert fake.journal.count("mail") == 0, "the client went on with a server that it must not trust"
        return
    refusals = [x for x in fake.journal if x.refused and x.fault]
    assert {(x.moment, str(x.code or "close")) for x in refusals} == {(where, how)}


def assert_arrived(fake: FakeSMTP) -> None:
    fake.assert_delivered(times=1)
    envelope = fake.messages[-1].envelope
    assert (envelope.sender, envelope.recipients) == (Job.sender, Job.recipients)
    if any(x.refused and x.fault for x in fake.journal):
        fake.assert_retried(times=1)


# ---- sent at once -----------------------------------------------------------------------------------

# smtplib takes a 421 to its QUIT for a failure, although the message is the server's by then.
SENT_AT_ONCE = """
scenario and knobs |way     |at|smtplib              |aiosmtplib|curl|msmtp|swaks
healthy            |none    |  |sent                 |sent      |sent|sent |sent
plain-on-tls-port  |implicit|  |sent                 |sent      |sent|sent |sent
maintenance        |none    |  |sent                 |sent      |sent|sent |sent
tls-required       |must    |  |sent                 |sent      |sent|sent |sent
tls-required       |may     |  |sent                 |sent      |sent|-    |sent
accepted-then-421  |none    |  |ResponseException 421|sent      |sent|sent |sent
at-stage stage=quit|none    |  |ResponseException 421|sent      |sent|sent |sent
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("smtp", SENT_AT_ONCE), CLIENTS.values()))
def test_is_delivered_at_once(row: Row, client: Client[Job], proves: Proves) -> None:
    with FakeSMTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        report = attempt(client, fake, encryption(row, 0))

        assert report.said == row.says.get(client.name, SENT), report.text
        fake.assert_delivered(times=1)
        fake.assert_no_duplicates()
        if row.scenario != "smtp/tls-required":  # no fault fires for a client that asks for TLS
            fake.assert_expected()
        assert fake.journal.count("connect") == 1, "nothing was to be sent again"
        proves(row.scenario, client.name)


@pytest.mark.parametrize("client", EVERYBODY)
@pytest.mark.parametrize("title", ["slow-replies", "stalled-greeting how=late"])
def test_waits_for_slow_replies(title: str, client: Client[Job], proves: Proves) -> None:
    """Seconds of scenario time are milliseconds here; what goes over the wire is the same, byte after byte."""
    row = Row("smtp", title, "none", "", {})
    with FakeSMTP(row.scenario, clock=RealClock(speed=500), **row.knobs) as fake:
        report = attempt(client, fake)

        assert report.said == SENT, report.text
        assert any(x.fault for x in fake.journal)
        fake.assert_expected()
        proves(row.scenario, client.name)
