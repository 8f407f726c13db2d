import smtplib
import sys

LETTERS = {"<1@me.test>": "Hello", "<2@me.test>": "Hello again"}


def flush(host, port):
    with smtplib.SMTP(host, port, timeout=5) as connection:
        for number, text in LETTERS.items():
            connection.sendmail("me@me.test", ["ann@x.test", "bob@x.test"], f"Message-ID: {number}\n\n{text}")


if __name__ == "__main__":
    try:
        flush(sys.argv[1], int(sys.argv[2]))
    except (smtplib.SMTPException, OSError) as error:
        sys.exit(f"not sent: {error}")
