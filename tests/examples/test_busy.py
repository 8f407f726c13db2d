import concurrent.futures
import urllib.error
import urllib.request

import pytest


def status(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.notnow("busy.toml", capacity="1/s", queue=1)
def test_the_third_of_three_requests_at_once_is_refused(fake_http, fast_forward):
    with concurrent.futures.ThreadPoolExecutor(3) as clients:
        assert sorted(clients.map(status, [fake_http.url] * 3)) == [200, 200, 503]
