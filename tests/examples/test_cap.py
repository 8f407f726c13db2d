import smtplib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest


class Mailer:
    """Sends from a pool, and comes back later when it is told 421."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self.host, self.port = host, port
        self.pool = ThreadPoolExecutor(max_workers=connections)

    def send_all(self, count: int) -> None:
        list(self.pool.map(self.send, range(count)))

    def send(self, number: int) -> None:
        while True:
            try:
                with smtplib.SMTP(self.host, self.port, timeout=5) as server:
                    server.sendmail(
                        "me@example.org", ["you@example.net"], f"Subject: number {number}\r\n\r\nHello!\r\n"
                    )
                    return
            except smtplib.SMTPException:
                time.sleep(0.01)


@pytest.mark.notnow("smtp/too-many-connections", cap=3)
def test_the_pool_fits_under_the_cap(fake_smtp):
    Mailer(fake_smtp.host, fake_smtp.port, connections=3).send_all(12)
    fake_smtp.assert_delivered(times=1)
    fake_smtp.assert_never_exceeded(connections=3)
    assert not any(exchange.refused for exchange in fake_smtp.journal)


@pytest.mark.notnow("smtp/too-many-connections", cap=3)
def test_a_pool_that_is_too_large_loses_nothing(fake_smtp):
    Mailer(fake_smtp.host, fake_smtp.port, connections=6).send_all(12)
    fake_smtp.assert_delivered(times=1, count=12)
