import httpx
import pytest


def fetch(url: str, ca_context: object) -> str:
    """A 421 is about the connection, so there is one retry, at once, on a new one (RFC 9110 §15.5.20)."""
    with httpx.Client(http2=True, verify=ca_context) as client:
        answer = client.get(url)
    if answer.status_code == 421:
        with httpx.Client(http2=True, verify=ca_context) as client:
            answer = client.get(url)
    return answer.raise_for_status().json()["authority"]


@pytest.mark.notnow("http/misdirected-times", times=1)
def test_a_misdirected_request_goes_to_a_new_connection(fake_http):
    with fake_http.resolving():
        fetch(fake_http.url_for("a.site.test", "/report"), fake_http.ssl_context())
    fake_http.assert_new_connection_after(421)
    fake_http.assert_retried(times=(1, 1))
    fake_http.assert_sni_matches_authority()
    fake_http.assert_delivered()
