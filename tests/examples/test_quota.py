import httpx
import pytest


@pytest.mark.notnow("quota.toml", requests=1)
def test_a_client_is_told_what_is_left(fake_http, fast_forward):
    with httpx.Client(base_url=fake_http.url, verify=fake_http.ssl_context()) as client:
        assert client.get("/").headers["x-ratelimit-remaining"] == "0"
        fast_forward.clock.advance("20s")
        assert client.get("/").headers["retry-after"] == "40"
