import smtplib

from notnow import scenario


def send_mail(servers: list[tuple[str, int]]) -> None:
    """The MX hosts of a domain, in order of preference (RFC 5321 §5.1)."""
    for host, port in servers:
        try:
            with smtplib.SMTP(host, port, timeout=5) as server:
                server.sendmail("me@example.org", ["you@example.net"], "Subject: hi\r\n\r\nHello!\r\n")
            return
        except smtplib.SMTPException:
            continue
    raise ConnectionError("no server takes our mail")


def test_the_backup_takes_over(fake_servers):
    servers = fake_servers(primary=scenario("smtp/overload", outage="2m"), backup="smtp/healthy")
    send_mail([(servers.primary.host, servers.primary.port), (servers.backup.host, servers.backup.port)])

    servers.primary.assert_fell_back_to(servers.backup, within="10s")
    servers.backup.assert_delivered(times=1)
    refused, accepted = servers.primary.journal.exchanges[0], servers.backup.journal.exchanges[0]
    assert refused.index < accepted.index  # one order of events for both
