from notnow.chaos import storm

SERVER = {"capacity": "10/s", "queue": 50, "outage": "2m", "arrivals": "8/s", "timeout": "10s", "horizon": "30m"}


def test_the_server_recovers_and_no_mail_is_given_up():
    found = storm("smtp/busy", policy="exponential(base=30s, cap=10m, jitter=full)", **SERVER)
    assert not found.stays_down
    assert found.drained_within("30m")
    assert found.gave_up == 0
