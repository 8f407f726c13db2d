import pytest
from deliver import deliver, persist

RECIPIENTS = ["ann@x.test", "bob@x.test"]


@pytest.mark.notnow("mailbox-busy.toml")
def test_only_the_recipient_that_was_put_off_is_tried_again(fake_lmtp):
    persist(fake_lmtp.host, fake_lmtp.port, RECIPIENTS)
    fake_lmtp.assert_delivered(times=1)
    fake_lmtp.assert_delivered(to="bob@x.test")
    fake_lmtp.assert_retried(times=1)
    fake_lmtp.assert_conduct()


@pytest.mark.notnow("mailbox-busy.toml")
def test_a_client_that_starts_over_duplicates(fake_server):
    assert deliver(fake_server.host, fake_server.port, RECIPIENTS) == ["bob@x.test"]
    assert deliver(fake_server.host, fake_server.port, RECIPIENTS) == []
    with pytest.raises(AssertionError, match="<1@x.test> to ann@x.test was stored twice"):
        fake_server.assert_no_duplicates()
