"""The same, once it has been repaired: it comes back after a while."""

import smtplib
import sys
import time

for wait in (0.2, 0.4, 0.8):
    try:
        with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as server:
            server.sendmail("app@client.test", ["user@server.test"], "Message-ID: <7@client.test>\n\nIt has shipped.\n")
        break
    except smtplib.SMTPException:
        time.sleep(wait)
