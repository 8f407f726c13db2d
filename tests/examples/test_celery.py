import smtplib

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

app = Celery("shop", broker="memory://", backend="cache+memory://")


@app.task(autoretry_for=(smtplib.SMTPException, OSError), retry_backoff=1, retry_jitter=False, max_retries=5)
def send_receipt(host, port, to):
    with smtplib.SMTP(host, port, timeout=10) as client:
        client.sendmail("shop@shop.test", [to], "Subject: Receipt\r\n\r\nThank you.\r\n")


@pytest.fixture
def worker():
    with start_worker(app, pool="solo", perform_ping_check=False) as started:
        yield started


@pytest.fixture
def eager():
    app.conf.task_always_eager = True
    yield
    app.conf.task_always_eager = False


@pytest.mark.notnow("smtp/overload", outage="1s")
def test_it_waits_longer_each_time(fake_smtp, worker):
    send_receipt.delay(fake_smtp.host, fake_smtp.port, "ann@customer.test")
    fake_smtp.wait_for(lambda journal: journal.count("message"), timeout=20)
    fake_smtp.assert_delivered(to="ann@customer.test", subject="Receipt")
    fake_smtp.assert_retried(first_delay=0.9)


@pytest.mark.notnow("smtp/overload", outage="1h")
def test_it_tries_six_times(fake_smtp, eager):
    send_receipt.delay(fake_smtp.host, fake_smtp.port, "ann@customer.test")
    fake_smtp.assert_retried(times=(5, 5))
    fake_smtp.assert_not_delivered()
