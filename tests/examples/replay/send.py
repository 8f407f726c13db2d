"""Sends one mail, and takes every answer for a good one."""

import contextlib
import smtplib
import sys

with contextlib.suppress(smtplib.SMTPException), smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as server:
    server.sendmail("app@client.test", ["user@server.test"], "Message-ID: <7@client.test>\n\nYour order has shipped.\n")
