import httpx
import pytest


async def app(scope, receive, send):
    """Your own ASGI app: Starlette, FastAPI, Django, or a few lines like these."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"Hello!\n"})


@pytest.mark.notnow("http/overload", app=app, outage="30s")
def test_the_client_waits_as_long_as_it_is_told(fake_http, fast_forward):
    import time

    with httpx.Client(http2=True, verify=fake_http.ssl_context()) as client:
        while (answer := client.get(fake_http.url)).status_code == 503:
            time.sleep(int(answer.headers["retry-after"]))
    assert answer.text == "Hello!\n"
    fake_http.assert_retry_after_honoured()
