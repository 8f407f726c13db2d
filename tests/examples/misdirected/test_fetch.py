import httpx
import pytest


@pytest.mark.notnow("http/misdirected-times", times=1)
def test_a_misdirected_request_goes_to_a_new_connection(fake_http):
    with fake_http.resolving(), httpx.Client(http2=True, verify=fake_http.ssl_context()) as client:
        for host in ("a.site.test", "b.site.test"):
            while client.get(fake_http.url_for(host, "/report")).status_code == 421:
                pass  # again, on the pooled connection
        fake_http.assert_new_connection_after(421)
