import ftplib
import hashlib
import io
import time

import pytest

from notnow import FakeFTP

REPORT = b"0123456789abcdef" * 200_000  # 3.2 MB


def send(host: str, port: int, name: str, content: bytes) -> None:
    """Send a file. It gets its name when all of it is there, so that nobody takes a piece for the whole."""
    for wait in (5, 30, 120, 600):
        try:
            with ftplib.FTP() as ftp:
                ftp.connect(host, port)
                ftp.login()
                ftp.storbinary(f"STOR {name}.part", io.BytesIO(content))
                ftp.rename(f"{name}.part", name)
                return
        except (*ftplib.all_errors, OSError):
            time.sleep(wait)


@pytest.mark.notnow("ftp/killed-mid-upload", bytes=1_000_000)
def test_an_upload_that_is_cut_is_sent_again(fake_ftp, fast_forward):
    send(fake_ftp.host, fake_ftp.port, "report.bin", REPORT)
    fake_ftp.assert_stored("report.bin", sha256=hashlib.sha256(REPORT).hexdigest())
    fake_ftp.assert_no_partial_files()


def test_files_of_your_own():
    with FakeFTP(files={"in/orders.csv": b"1,2\n", "out/": b"", "big.iso": "20MB"}) as fake:
        send(fake.host, fake.port, "out/answer.csv", b"3\n")
        assert fake.files["out/answer.csv"] == b"3\n"
        assert list(fake.files) == ["big.iso", "in/orders.csv", "out/answer.csv"]
