import smtplib
import sys
import time

for wait in (1, 2, 4):
    try:
        with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as server:
            server.sendmail("me@example.org", "you@example.net", "Subject: hi")
        break
    except smtplib.SMTPException as error:
        print(f"not sent, trying again in {wait} s: {error}")
        time.sleep(wait)
