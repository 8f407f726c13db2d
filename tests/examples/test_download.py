import ftplib
import io
import time

import pytest


def fetch(host: str, port: int, name: str) -> bytes:
    """Fetch a file; what is cut is gone on with, from where it was cut (REST, RFC 3659 §5)."""
    got = io.BytesIO()
    for wait in (5, 30, 120, 600):
        try:
            with ftplib.FTP() as ftp:
                ftp.connect(host, port)
                ftp.login()
                ftp.retrbinary(f"RETR {name}", got.write, rest=got.tell() or None)
                return got.getvalue()
        except (*ftplib.all_errors, OSError):
            time.sleep(wait)
    raise RuntimeError(f"{name} does not come through")


@pytest.mark.notnow("ftp/killed-mid-download", times=2)
def test_a_download_that_is_cut_twice_arrives_whole(fake_ftp, fast_forward):
    assert fetch(fake_ftp.host, fake_ftp.port, "big.bin") == fake_ftp.files["big.bin"]
    fake_ftp.assert_delivered(times=1)
    fake_ftp.assert_retried(times=2, first_delay=5)
