import smtplib
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from notnow import FakeFTP, FakeHTTP, FakeSMTP


@pytest.fixture
def shop(tmp_path):
    """Your own server, as your tests start it already."""
    (tmp_path / "price.txt").write_text("42")
    with HTTPServer(("127.0.0.1", 0), lambda *given: SimpleHTTPRequestHandler(*given, directory=tmp_path)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_faults_in_front_of_your_own_server(shop):
    with FakeHTTP("http/by-path", tls="none", upstream=shop) as fake:
        with urlopen(f"{fake.url}/price.txt") as answer:
            assert answer.read() == b"42"
        with pytest.raises(HTTPError, match="503"):
            urlopen(f"{fake.url}/503/price.txt")


def test_accepted_mail_goes_on(tmp_path):
    with FakeSMTP(name="mailpit") as mailpit, FakeSMTP("smtp/kept-then-421", forward=mailpit.url) as fake:
        with smtplib.SMTP(fake.host, fake.port) as client, pytest.raises(smtplib.SMTPResponseException, match="421"):
            client.sendmail("me@example.org", ["you@example.net"], "Subject: hi\r\n\r\nHello!\r\n")
        mailpit.wait_for(lambda _: mailpit.messages)
        assert mailpit.message(to="you@example.net")["subject"] == "hi"


def test_a_copy_of_a_directory(tmp_path):
    (tmp_path / "report.csv").write_bytes(b"1,2\n")
    with FakeFTP("ftp/healthy", files=tmp_path) as fake:
        assert fake.files["report.csv"] == b"1,2\n"
