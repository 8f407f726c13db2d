import asyncio
import smtplib
import threading

from notnow import FakeSMTP


def test_a_client_in_another_thread():
    def client() -> None:
        with smtplib.SMTP(smtp.host, smtp.port) as server:
            server.noop()

    with FakeSMTP() as smtp:
        thread = threading.Thread(target=client)
        thread.start()
        smtp.wait_for(lambda journal: journal.count("noop") >= 1, timeout=5)
        thread.join()


async def asynchronous() -> None:
    async with FakeSMTP("smtp/overload") as smtp:
        reader, writer = await asyncio.open_connection(smtp.host, smtp.port)
        await smtp.await_for(lambda journal: journal.count("connect") == 1)
        assert await reader.readline() == b"421 4.3.2 All server ports are busy\r\n"
        writer.close()
        await writer.wait_closed()


def test_a_client_in_an_event_loop():
    asyncio.run(asynchronous())
