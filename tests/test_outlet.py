"""Standard output whose reader does not read: what is written waits for it, and no longer than until we are to stop."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Iterator

import pytest

from notnow.cli import _outlet
from notnow.cli._outlet import Outlet, outlet

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no poll")
MUCH = "x" * 1023 + "\n"  # 1024 times this is more than any pipe holds


@pytest.fixture(params=["all that fits", "pieces"])
def pipe(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[int, Outlet, threading.Event]]:
    """The reader's end of a pipe, an outlet into the other, and what stops it. Only on Linux it can write all that fits."""
    if request.param == "pieces":
        monkeypatch.setattr(_outlet, "NOWAIT", 0)
    reader, writer = os.pipe()
    stop = threading.Event()
    with open(writer, "w", encoding="utf-8") as stream:
        yield reader, Outlet(stream, stop.is_set), stop
    os.close(reader)


def test_all_that_is_read_comes_through(pipe):
    reader, out, _ = pipe
    text = "Grüße\n" + MUCH * 1024
    got = bytearray()

    def read() -> None:
        while len(got) < len(text.encode()):
            got.extend(os.read(reader, 65536))

    thread = threading.Thread(target=read)
    thread.start()
    out.write(text)
    out.flush()
    thread.join()
    assert got.decode() == text
    assert not out.left


def test_a_reader_who_pauses_is_waited_for(pipe):
    reader, out, _ = pipe
    out.write(MUCH * 1024)
    thread = threading.Thread(target=out.flush)
    thread.start()
    first = os.read(reader, 1)  # it has begun, and there is no room for all
    rest = 0
    while rest + len(first) < 1024 * 1024:
        rest += len(os.read(reader, 65536))
    thread.join()
    assert not out.left


def test_nobody_waits_once_we_are_to_stop(pipe):
    _, out, stop = pipe
    stop.set()
    out.write(MUCH * 1024)
    out.flush()
    assert out.left
    out.write(MUCH * 1024)  # nor ever again
    out.flush()


def test_a_stop_that_comes_amid_a_write_ends_it(pipe):
    reader, out, stop = pipe
    out.write(MUCH * 1024)
    thread = threading.Thread(target=out.flush)
    thread.start()
    os.read(reader, 1)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert out.left


def test_what_fits_is_written_even_then(pipe):
    reader, out, stop = pipe
    stop.set()
    out.write("stopped\n")
    out.flush()
    assert os.read(reader, 100) == b"stopped\n"


def can_write_all() -> bool:
    """True if the kernel can write all that a pipe has room for: Linux since 6.4."""
    reader, writer = os.pipe()
    try:
        return _outlet.NOWAIT != 0 and os.pwritev(writer, [b"x"], -1, _outlet.NOWAIT) == 1
    except OSError:
        return False
    finally:
        os.close(reader)
        os.close(writer)


def writes(monkeypatch: pytest.MonkeyPatch, *errors: int) -> list[int]:
    """The bytes of each write that does not wait; the first fail with these errors, and 0 stands for them."""
    done, failing, real = [], list(errors), os.pwritev

    def pwritev(*given: object) -> int:
        done.append(0)
        if failing:
            number = failing.pop(0)
            raise OSError(number, os.strerror(number))
        done[-1] = real(*given)
        return done[-1]

    monkeypatch.setattr(os, "pwritev", pwritev)
    return done


@pytest.mark.skipif(not can_write_all(), reason="needs Linux 6.4")
@pytest.mark.parametrize(
    ("errors", "told"), [([], [32768]), ([errno.EAGAIN], [0, 32768]), ([errno.EOPNOTSUPP], [0])], ids=str
)
def test_a_pipe_with_room_takes_all_in_one_write(monkeypatch, errors, told):
    reader, writer = os.pipe()
    with open(writer, "w", encoding="utf-8") as stream:
        out = Outlet(stream, lambda: False)
        done = writes(monkeypatch, *errors)
        out.write(MUCH * 32)
        out.flush()
        assert done == told
        assert os.read(reader, 65536) == (MUCH * 32).encode()
        assert os.get_blocking(writer)  # it is not ours alone
    os.close(reader)


@pytest.mark.skipif(not _outlet.NOWAIT, reason="needs Linux")
def test_a_file_is_written_in_pieces(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w", encoding="utf-8") as stream:
        out, done = Outlet(stream, lambda: False), writes(monkeypatch)
        out.write(MUCH * 32)
        out.flush()
    assert (tmp_path / "out").read_text() == MUCH * 32
    assert done == []


def test_a_reader_who_has_gone_is_a_broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream:
        out = Outlet(stream, lambda: False)
        out.write("x")
        with pytest.raises(BrokenPipeError):
            out.flush()


def test_a_stream_without_a_number_stays_as_it_is(monkeypatch):
    import io

    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    with outlet(lambda: False) as made:
        assert made is None
        assert sys.stdout is stream


def test_standard_output_comes_back(monkeypatch, tmp_path):
    with open(tmp_path / "out", "w+", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        with outlet(lambda: False):
            assert isinstance(sys.stdout, Outlet)
            print("said")
        assert sys.stdout is stream
        assert (tmp_path / "out").read_text() == "said\n"


def test_a_piece_is_what_a_pipe_takes_at_once():
    assert 512 <= _outlet.PIECE <= 65536  # POSIX: at least 512
