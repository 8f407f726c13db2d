from mailer import send_mail


def test_the_mail_arrives(fake_smtp):
    send_mail(fake_smtp.host, fake_smtp.port, "Subject: the disk is full\r\n\r\nHelp!\r\n")

    fake_smtp.assert_delivered(times=1)
    assert fake_smtp.messages[0]["Subject"] == "the disk is full"
