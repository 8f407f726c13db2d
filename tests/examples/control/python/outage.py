import os
import smtplib

from notnow_client import Client
from notnow_client.api.clock import advance_clock
from notnow_client.api.servers import start_server, stop_server, wait_for
from notnow_client.api.verdict import judge_clients
from notnow_client.models import Advance, NewServer, Server, Sightings, Verdict, WaitForMoments


def send(port: int) -> None:
    """The client under test."""
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.sendmail("me@example.org", ["you@example.net"], "Subject: hi\nMessage-ID: <1@example.org>\n\nhi\n")


with Client(os.environ["NOTNOW_CONTROL"]) as api:
    server = start_server.sync(client=api, body=NewServer(scenario="smtp/overload", speed=0, ttl="5m"))
    assert isinstance(server, Server), server
    try:
        send(server.port)
    except smtplib.SMTPConnectError as error:
        print("not now:", error.smtp_code)
    advance_clock.sync(client=api, body=Advance(by="1h", servers=[server.name]))
    send(server.port)

    moments = WaitForMoments.from_dict({"connect": 2, "mail": 1})
    seen = wait_for.sync(server.name, client=api, timeout="5s", moments=moments)
    assert isinstance(seen, Sightings), seen
    verdict = judge_clients.sync(client=api, server=[server.name], exit_=0, count=1)
    assert isinstance(verdict, Verdict), verdict
    print(f"{verdict.result}: {verdict.outcome}")
    stop_server.sync_detailed(server.name, client=api)
