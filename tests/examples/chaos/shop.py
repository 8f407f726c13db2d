"""Confirms an order by mail. It tries again, and waits twice as long each time."""

import smtplib
import sys
import time

MAIL = "Message-ID: <{0}@shop.test>\nSubject: your order {0}\n\nIt has shipped.\n"


def confirm(host: str, port: int, order: str) -> None:
    for wait in (0.5, 1, 2, 4, None):
        try:
            with smtplib.SMTP(host, port) as server:
                server.sendmail("shop@shop.test", ["customer@example.com"], MAIL.format(order))
            return
        except (OSError, smtplib.SMTPException) as error:
            if wait is None:
                sys.exit(f"order {order} is not confirmed: {error}")
            time.sleep(wait)


confirm("127.0.0.1", int(sys.argv[1]), sys.argv[2])
