import smtplib
import sys

try:
    with smtplib.SMTP(sys.argv[1], int(sys.argv[2])) as server:
        server.sendmail("me@example.org", "you@example.net", "Subject: hi")
except smtplib.SMTPException as error:
    sys.exit(f"not sent: {error}")
