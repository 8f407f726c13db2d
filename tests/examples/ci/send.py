import os
import smtplib

MAIL = "From: me@example.org\nMessage-ID: <1@example.org>\nSubject: hi\n\nhi\n"

for port in (os.environ["PRIMARY"], os.environ["BACKUP"]):
    try:
        with smtplib.SMTP("127.0.0.1", int(port)) as server:
            server.sendmail("me@example.org", "you@example.net", MAIL)
            break
    except smtplib.SMTPException as error:
        print("not sent:", error)
else:
    raise SystemExit("no server takes mail")
