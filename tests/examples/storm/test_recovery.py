from notnow.chaos import storm

POLICY = "exponential(base=30s, cap=10m, jitter=full)"
SERVER = {"capacity": "10/s", "outage": "2m", "arrivals": "8/s", "timeout": "10s", "horizon": "30m"}


def test_the_server_recovers_and_no_mail_is_given_up():
    found = storm("smtp/busy", policy=POLICY, queue=50, **SERVER)
    assert not found.stays_down
    assert found.drained_within("30m")
    assert found.gave_up == 0


def test_with_a_longer_queue_it_stays_down():
    assert storm("smtp/busy", policy=POLICY, queue=200, **SERVER).stays_down
