"""Stock FTP clients meet the catalogue: what they say of a refusal, and that they get through when it is over.

What the tables hold was seen of ftplib (CPython 3.11), aioftp 0.28, curl 7.88, lftp 4.9.2 and wget 1.21.
A client without a word of its own may say what it likes, but not that it is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from clients import Report
from ftp_clients import (
    CLIENTS,
    DONE,
    EVERYBODY,
    Job,
    assert_came_through,
    assert_did_not_come_through,
    attempt,
)  # fmt: skip
from tables import Row, pairs, read

from notnow import FakeFTP, ManualClock, RealClock

if TYPE_CHECKING:
    from pathlib import Path

    from clients import Client
    from coverage_table import Proves

LATER = "10m"  # when the clients try again: by then what passes has passed

# ---- refused, and through later ---------------------------------------------------------------------

# curl has 28, "Timeout was reached", for every 421; but it does not take "421" alone for the end of a reply. It goes
# from EPSV to PASV, and from EPRT to PORT, whatever the refusal says. wget has 6, "Login incorrect", for a 421 to PASS,
# and 8 where it gets no data connection. aioftp lists by MLSD. lftp comes back by itself where a transfer was cut, and
# loses uploads then: test_ftp_transfers.py has more of it.
REFUSED = """
scenario and knobs                   |way                   |at             |ftplib             |aioftp             |curl|lftp|wget
stalled-greeting                     |get quick>get         |               |Timeout            |Timeout            |28  |1   |4
plain-on-tls-port                    |get quick>get implicit|               |-                  |Timeout            |28  |1   |4
overload                             |get                   |connect 421    |error_temp 421     |StatusCode 421     |28  |1   |4
overload like=proftpd                |put                   |connect 421    |error_temp 421     |StatusCode 421     |28  |1   |
busy-greeting                        |get                   |connect 421    |error_temp 421     |StatusCode 421     |28  |1   |4
ip-blocked                           |list                  |connect 421    |error_temp 421     |StatusCode 421     |28  |1   |4
ip-blocked like=silent               |get                   |connect close  |EOF                |ConnectionReset    |56  |1   |4
weather chance=100%                  |get                   |connect 421    |error_temp 421     |StatusCode 421     |28  |1   |4
flapping-overload down=30s up=50s    |get                   |connect 421    |error_temp 421     |StatusCode 421     |28  |1   |4
bare-close                           |get                   |connect close  |EOF                |ConnectionReset    |56  |1   |4
bare-close how=reset                 |get                   |connect close  |                   |                   |    |    |
at-stage stage=connect like=multiline|list                  |connect 421    |error_temp 421     |StatusCode 421     |28  |1   |4
at-stage stage=user                  |get                   |user 421       |error_temp 421     |StatusCode 421     |28  |1   |4
bare-close stage=user                |get                   |user close     |EOF                |ConnectionReset    |56  |1   |4
at-stage stage=pass                  |get                   |pass 421       |error_temp 421     |StatusCode 421     |28  |1   |6
bare-close stage=pass                |get                   |pass close     |EOF                |ConnectionReset    |56  |1   |4
at-stage stage=login                 |get                   |pass 421       |error_temp 421     |StatusCode 421     |28  |1   |6
open-after-421 stage=login           |get                   |pass 421       |error_temp 421     |StatusCode 421     |28  |1   |6
kicked                               |get                   |enter 421      |error_temp 421     |                   |28  |1   |4
kicked like=silent                   |get                   |enter close    |                   |                   |56  |1   |4
at-stage stage=type                  |get                   |type 421       |error_temp 421     |StatusCode 421     |28  |1   |4
at-stage stage=size                  |get                   |size 421       |-                  |-                  |28  |1   |4
at-stage stage=pasv                  |get classic           |pasv 421       |error_temp 421     |StatusCode 421     |28  |1   |8
at-stage stage=epsv                  |get                   |epsv 421       |-                  |StatusCode 421     |28  |-   |-
open-after-421 stage=pasv            |get classic           |pasv 421       |error_temp 421     |StatusCode 421     |28  |1   |8
open-after-421                       |get active classic    |port 421       |error_temp 421     |-                  |28  |1   |4
active-blocked                       |get active>get        |retr 425       |error_temp 425     |-                  |19  |1   |4
passive-blocked                      |get quick>get active  |               |Timeout            |-                  |28  |1   |4
passive-blocked how=refused          |get>get active        |               |ConnectionRefused  |-                  |7   |1   |4
at-stage stage=retr                  |get                   |retr 421       |error_temp 421     |StatusCode 421     |28  |1   |4
at-stage stage=retr like=bare        |get                   |retr 421       |error_temp 421     |StatusCode 421     |56  |1   |4
at-stage stage=retr like=multiline   |get                   |retr 421       |error_temp 421     |StatusCode 421     |28  |1   |4
open-after-421 stage=retr like=rfc   |get                   |retr 421       |error_temp 421     |StatusCode 421     |28  |1   |4
bare-close stage=retr                |get                   |retr close     |EOF                |ConnectionReset    |56  |1   |4
at-stage stage=list                  |list                  |list 421       |error_temp 421     |-                  |28  |1   |4
at-stage stage=mlsd                  |list                  |mlsd 421       |-                  |StatusCode 421     |-   |-   |-
bare-close stage=list how=abrupt     |list                  |list close     |                   |-                  |56  |1   |4
at-stage stage=stor                  |put                   |stor 421       |error_temp 421     |StatusCode 421     |28  |1   |
bare-close stage=stor                |put                   |stor close     |EOF                |ConnectionReset    |56  |1   |
bare-close stage=stor how=reset      |put                   |stor close     |                   |                   |    |1   |
storage-full                         |put                   |stor 452       |error_temp 452     |StatusCode 452     |25  |1   |
shutdown                             |get                   |enter 421      |error_temp 421     |StatusCode 421     |18  |1   |4
shutdown like=proftpd                |put                   |enter 421      |error_temp 421     |                   |    |-   |
killed-mid-download                  |get                   |transfer 421   |error_temp 421     |StatusCode 421     |18  |1   |4
killed-mid-download                  |get>get resume        |transfer 421   |error_temp 421     |StatusCode 421     |18  |-   |4
killed-mid-download data=drain       |get>get resume        |transfer 421   |error_temp 421     |StatusCode 421     |18  |-   |4
killed-mid-download data=reset       |get                   |transfer 421   |                   |                   |56  |1   |4
killed-mid-download like=vsftpd      |get>get resume        |transfer 426   |error_temp 426     |StatusCode 426     |18  |-   |4
killed-mid-download like=silent      |get>get resume        |transfer close |EOF                |ConnectionReset    |18  |-   |4
killed-mid-upload                    |put                   |transfer 421   |error_temp 421     |                   |    |-   |
killed-mid-upload                    |put>put resume        |transfer 421   |error_temp 421     |                   |    |-   |
killed-mid-upload data=drain         |put>put resume        |transfer 421   |error_temp 421     |StatusCode 421     |28  |-   |
killed-mid-upload data=fin keep=false|put                   |transfer 421   |                   |                   |    |-   |
killed-mid-upload like=aborted       |put>put resume        |transfer 426   |error_temp 426     |                   |    |-   |
killed-mid-upload like=silent        |put>put resume        |transfer close |                   |                   |    |-   |
stalled-transfer                     |get quick>get         |               |Timeout            |Timeout            |28  |-   |4
stalled-transfer                     |put quick>put resume  |               |Timeout            |Timeout            |28  |-   |
tls-required                         |get>get must          |user 421       |error_temp 421     |StatusCode 421     |28  |1   |4
tls-required like=rfc                |get>get must          |user 421       |error_temp 421     |StatusCode 421     |28  |1   |4
tls-required like=not-logged-in      |get>get must          |user 530       |error_perm 530     |StatusCode 530     |67  |1   |4
auth-tls-refused                     |get must              |auth 431       |error_temp 431     |StatusCode 431     |64  |1   |1
auth-tls-refused like=proftpd        |put must              |auth 421       |error_temp 421     |StatusCode 421     |28  |1   |
auth-tls-refused like=proftpd        |get may               |auth 421       |-                  |-                  |28  |1   |
tls-handshake-refused                |get must              |tls close      |SSL                |SSL                |35  |1   |4
tls-handshake-refused mode=implicit  |get implicit          |tls close      |-                  |SSL                |35  |1   |4
untrusted-certificate                |get must              |shown untrusted|SSLCertVerification|SSLCertVerification|60  |1   |5
untrusted-certificate mode=implicit  |get implicit          |shown untrusted|-                  |SSLCertVerification|60  |1   |5
expired-certificate                  |put must              |shown expired  |SSLCertVerification|SSLCertVerification|60  |1   |
expired-certificate                  |get must              |shown expired  |SSLCertVerification|SSLCertVerification|60  |1   |5
expired-certificate mode=implicit    |get implicit          |shown expired  |-                  |SSLCertVerification|60  |1   |5
wrong-certificate                    |get must              |shown wrong    |SSLCertVerification|SSLCertVerification|60  |1   |5
wrong-certificate mode=implicit      |put implicit          |shown wrong    |-                  |SSLCertVerification|60  |1   |
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("ftp", REFUSED), CLIENTS.values()))
def test_is_refused_and_gets_through_later(row: Row, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeFTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        report = attempt(client, fake, tmp_path, row.way_of(0))

        assert_did_not_come_through(fake, tmp_path, row.way, report)
        assert report.said == row.says.get(client.name, report.said), report.text
        assert_refused(fake, row.at)
        assert fake.journal.count("connect") == 1, "nobody was to try again by itself"

        fake.clock.advance(LATER)
        report = attempt(client, fake, tmp_path, row.way_of(1))

        assert_came_through(fake, tmp_path, row.way, report)
        fake.assert_expected()
        if any(x.refused and x.fault for x in fake.journal):
            fake.assert_retried(times=1)
        if row.way_of(1).endswith("resume"):
            assert_resumed(fake)
        proves(row.scenario, client.name)


def assert_refused(fake: FakeFTP, at: str) -> None:
    """The journal has that refusal, and only that one; or the client has turned away from that certificate."""
    refusals = [x for x in fake.journal if x.refused and x.fault]
    if not at:
        assert refusals == [], "nothing was to be said to the client"
        return
    where, how = at.split()
    if where == "shown":
        assert [c.tls and c.tls.certificate for c in fake.journal.connections] == [how]
        assert fake.journal.count("user") == 0, "the client went on with a server that it must not trust"
        return
    assert {(x.moment, "close" if x.reply is None else str(x.codes[-1])) for x in refusals} == {(where, how)}


def assert_resumed(fake: FakeFTP) -> None:
    """The last transfer has begun where the file that was there ended, and not at 0."""
    last = [x for x in fake.journal if x.transfer][-1]
    assert last.moment == "appe" or last.facts.offset > 0


# ---- done at once -----------------------------------------------------------------------------------

# ftplib and aioftp take a 421 to their QUIT for a failure, and one that comes right behind the 226, although the file
# has come through by then. lftp gets it all over again then, and again: see test_ftp_transfers.py.
AT_ONCE = """
scenario and knobs                |way         |at|ftplib        |aioftp        |curl|lftp|wget
healthy                           |get         |  |done          |done          |done|done|done
healthy                           |put         |  |done          |done          |done|done|
healthy                           |list        |  |done          |done          |done|done|done
healthy                           |get active  |  |done          |-             |done|done|done
healthy                           |put active  |  |done          |-             |done|done|
healthy tls=starttls              |get must    |  |done          |done          |done|done|done
healthy tls=starttls              |put must    |  |done          |done          |done|done|
healthy tls=starttls              |list must   |  |done          |done          |done|done|done
plain-on-tls-port                 |get implicit|  |-             |done          |done|done|done
plain-on-tls-port                 |put implicit|  |-             |done          |done|done|
maintenance                       |get         |  |done          |done          |done|done|done
tls-required                      |get must    |  |done          |done          |done|done|done
tls-required                      |put may     |  |-             |-             |done|done|
at-stage stage=quit               |get         |  |error_temp 421|StatusCode 421|done|done|done
accepted-then-421                 |get         |  |error_temp 421|StatusCode 421|done|-   |done
accepted-then-421                 |put         |  |error_temp 421|StatusCode 421|done|done|
wrong-passive-reply               |get classic |  |done          |done          |done|done|-
wrong-passive-reply what=elsewhere|put classic |  |done          |done          |done|done|
wrong-passive-reply what=elsewhere|list        |  |done          |done          |done|done|-
wrong-passive-reply what=port     |get         |  |-             |done          |done|-   |-
"""


@pytest.mark.parametrize(("row", "client"), pairs(read("ftp", AT_ONCE), CLIENTS.values()))
def test_is_done_at_once(row: Row, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    with FakeFTP(row.scenario, clock=ManualClock(), **row.knobs) as fake:
        report = attempt(client, fake, tmp_path, row.way)

        assert report.said == row.says.get(client.name, DONE), report.text
        assert_came_through(fake, tmp_path, row.way, Report(DONE, report.text))
        if any(rule.times for rule in fake.fired.values()):  # some clients never come to its moment
            fake.assert_expected()
        fake.assert_no_duplicates()
        assert fake.journal.count("connect") == 1, "nothing was to be done again"
        proves(row.scenario, client.name)


@pytest.mark.parametrize("client", EVERYBODY)
@pytest.mark.parametrize("title", ["slow-replies", "stalled-greeting how=late"])
def test_waits_for_slow_replies(title: str, client: Client[Job], tmp_path: Path, proves: Proves) -> None:
    """Seconds of scenario time are milliseconds here; what goes over the wire is the same, byte after byte."""
    row = Row("ftp", title, "get", "", {})
    with FakeFTP(row.scenario, clock=RealClock(speed=500), **row.knobs) as fake:
        report = attempt(client, fake, tmp_path)

        assert_came_through(fake, tmp_path, row.way, report)
        assert any(x.fault for x in fake.journal)
        fake.assert_expected()
        proves(row.scenario, client.name)


@pytest.mark.parametrize("client", EVERYBODY)
def test_reads_both_lines_of_a_greeting(client: Client[Job], tmp_path: Path) -> None:
    """A reply of two lines (RFC 959 §4.2): each client has read it to the end, and shows it to its user."""
    with FakeFTP("ftp/busy-greeting", clock=ManualClock()) as fake:
        report = attempt(client, fake, tmp_path)

        assert "fake.notnow.test is too busy to provide files right now." in report.text
        assert "Please come back in 30 seconds." in report.text
        assert not any(c.after.startswith("USER") for c in fake.journal.connections), "nobody was to log in"
