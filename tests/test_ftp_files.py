"""The tree of files: as a mapping for tests, as a disc for uploads and downloads, and as clients see it."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import mmap
import os
import re
import sys
import threading
import tracemalloc
from collections.abc import Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyftpdlib.exceptions import FilesystemError

from ftp_client import BIG, Raw, one, rules
from notnow import FakeFTP, ManualClock, ScenarioError
from notnow.servers.ftp import content
from notnow.servers.ftp.content import BLOCK, COLLAPSE, HUGE, MOST_MOVED, Node
from notnow.servers.ftp.files import DEFAULT, ROOM, Files, NoRoomError, filling, path
from notnow.servers.ftp.filesystem import MemoryFS
from notnow.servers.ftp.opened import Reader, Writer, writer

pytestmark = pytest.mark.usefixtures("each_loop")


class Tree(Files):
    """Files whose time is told by hand."""

    def __init__(self, files=None, quota=None) -> None:
        self.time = 1000.0
        super().__init__(files or {}, quota, lambda: self.time)


@pytest.fixture
def files() -> Tree:
    return Tree()


@pytest.fixture
def often() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TestMapping:
    @pytest.mark.parametrize("of", ["items", "values"])
    def test_an_iteration_is_over_what_was_there(self, files, of):
        files.update(a="1", b="2")
        going = iter(getattr(files, of)())
        next(going)
        del files["b"]
        files["c"] = "3"
        assert list(going) == [("b", b"2") if of == "items" else b"2"]

    def test_a_file_that_goes_away_meanwhile_is_no_error(self, files, monkeypatch):
        files.update(a="1", b="2")
        monkeypatch.setattr("notnow.servers.ftp.files.show_size", lambda size: files.pop("b", None) and f"{size}B")
        assert repr(files) == "<Files a (1B), b (None)>"

    def test_of_changes_of_many_threads_none_is_lost(self, files, often):
        def change(n: int) -> None:
            for i in range(200):
                files[f"{n}/{i % 7}"] = b"x" * i
                files.pop(f"{n - 1}/{i % 5}", None)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(change, range(4)))
        assert files.used == sum(map(len, files.values())) == sum(files.sizes().values())
        files.clear()
        assert (files.used, len(files), b"" in files.values()) == (0, 0, False)

    def test_between_the_two_steps_of_a_pop_nobody_else_takes_the_file(self):
        class Watched(Tree):
            def _change(self) -> bool:
                if free := self._changing.acquire(blocking=False):
                    self._changing.release()
                return free

            def __getitem__(self, name: str) -> bytes:
                with ThreadPoolExecutor(1) as pool:
                    changes.append(pool.submit(self._change).result())
                return super().__getitem__(name)

        changes: list[bool] = []
        files = Watched({"a": b"1"})
        assert files.pop("a", b"-") == b"1"
        assert files.pop("a", b"-") == b"-"
        assert changes == [False, False]

    def test_names_are_paths_from_the_root(self, files):
        for name in ("a/b.txt", "/a/b.txt", "//a//b.txt", "a/./b.txt", "x/../a/b.txt", "../a/b.txt"):
            files[name] = name
            assert list(files) == ["a/b.txt"]
            assert files["a/b.txt"] == files["/a/b.txt"] == name.encode()
            assert name in files
            del files[name]
            assert len(files) == 0

    def test_it_is_a_mapping(self, files):
        assert isinstance(files, MutableMapping)
        files.update({"b": b"2", "a": b"1", "c/d": b"3"})
        assert list(files) == ["a", "b", "c/d"]
        assert dict(files) == {"a": b"1", "b": b"2", "c/d": b"3"}
        assert files.pop("a") == b"1"
        assert files.get("a") is None
        assert files.setdefault("b", b"x") == b"2"
        files.clear()
        assert not files
        assert files.used == 0

    @pytest.mark.parametrize(
        ("content", "stored"),
        [
            (b"\0\xff", b"\0\xff"), (bytearray(b"x"), b"x"), (memoryview(b"xyz")[1:], b"yz"), ("ü\n", "ü\n".encode()), ("", b""),
            ("10B", filling(10)), ("1.5KB", filling(1500)), ("0MB", b""), ("10 B", b"10 B"), ("3MBs", b"3MBs"), (" 3MB", b" 3MB"),
        ],
    )  # fmt: skip
    def test_contents(self, files, content, stored):
        files["x"] = content
        assert files["x"] == stored
        assert isinstance(files["x"], bytes)
        assert files.used == len(stored)

    def test_what_was_given_may_change_afterwards(self, files):
        content = bytearray(b"abc")
        files["x"] = content
        content[0] = 0
        assert files["x"] == b"abc"

    @pytest.mark.parametrize("content", [5, None, 1.5, ["a"], object])
    def test_what_is_no_content(self, files, content):
        with pytest.raises(TypeError, match="'x' is .*; allowed: bytes, a text, or a size"):
            files["x"] = content
        assert "x" not in files

    @pytest.mark.parametrize(
        "name", ["", "/", ".", "..", "dir", "dir/", "a/b", "a/b/c", "a/", "a\nb", "a\0", "a\x7f/b", "\u2028"]
    )
    def test_names_that_no_file_can_have(self, name):
        files = Tree({"a": b"1", "dir/x": b"2"})
        if name in ("/", "dir/"):
            files[name] = b""  # they are there already
        else:
            with pytest.raises(ValueError, match="is a directory|is a file|control characters"):
                files[name] = b"new"
        assert dict(files) == {"a": b"1", "dir/x": b"2"}
        assert files.children("/") == ["a", "dir"]

    def test_a_size_that_would_fill_the_memory(self, files):
        files["x"] = "1GB"  # which is not made before somebody wants it
        with pytest.raises(ValueError, match="allowed: up to 1GB"):
            files["x"] = "1.1GB"

    def test_what_is_not_there(self):
        files = Tree({"a.txt": b"", "b/c": b""})
        with pytest.raises(KeyError, match=r"'x': there is no such file; there are a\.txt, b/c"):
            files["x"]
        with pytest.raises(KeyError):
            del files["b"]
        assert "b" not in files
        assert 5 not in files

    def test_directories_are_made_on_the_way_and_by_a_slash(self, files):
        files["a/b/c.txt"] = b""
        files["d/e/"] = b"whatever"
        assert [files.is_directory(d) for d in ("/", "/a", "/a/b", "/d", "/d/e", "/a/b/c.txt", "/x")] == [True] * 5 + [
            False
        ] * 2
        assert list(files) == ["a/b/c.txt"]
        assert files.children("/") == ["a", "d"]
        assert files.children("/a") == ["b"]
        assert files.children("/a/b") == ["c.txt"]

    def test_repr(self):
        assert repr(Tree({"a": "3MB", "b/c": "x"})) == "<Files a (3 MB), b/c (1 byte)>"
        assert repr(Tree()) == "<Files none>"

    def test_times(self, files):
        files["a"] = b""
        files.time = 2000
        files["d/b"] = b""
        files.time = 3000
        assert [files.modified(name) for name in ("/a", "/d", "/d/b", "/")] == [1000, 2000, 2000, 1000]
        files.touch("/a", 5)
        assert files.modified("/a") == 5

    @pytest.mark.parametrize(
        ("name", "where"), [("a", "/a"), ("/a/", "/a"), ("//a", "/a"), ("", "/"), ("a/../../b", "/b"), ("...", "/...")]
    )
    def test_path(self, name, where):
        assert path(name) == where

    def test_filling_is_always_the_same_and_nowhere_alike(self):
        assert filling(1000) == filling(1000)
        assert len({filling(100_000)[i : i + 8] for i in range(0, 100_000, 8)}) == 12_500
        assert filling(999) != filling(1000)[:999]

    @pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5])
    def test_any_piece_of_a_filling_is_that_piece_of_the_whole(self, size):
        whole = filling(size)
        assert len(whole) == size
        for start in {0, 1, BLOCK - 1, BLOCK, size - 1, size, size + 1} - {-1}:
            for count in (0, 1, BLOCK, BLOCK + 2):
                assert filling(size, start, count) == whole[start : start + count]

    def test_blocks_of_a_filling_are_not_alike(self):
        assert len({filling(10 * BLOCK, i * BLOCK, BLOCK) for i in range(10)}) == 10

    def test_size_and_hash_of_a_file_beyond_the_memory_of_one(self):
        files = Tree({"iso": "269MB", "x": b"abc"})
        tracemalloc.start()
        try:
            assert files.size("iso") == 269_000_000
            assert files.sha256("x") == hashlib.sha256(b"abc").hexdigest()
            assert files.sha256("iso") == files.sha256("iso")
            assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
        finally:
            tracemalloc.stop()
        with pytest.raises(KeyError, match="there are iso, x"):
            files.size("y")


def upload(files: Files, name: str, *pieces: bytes, mode: str = "wb", at: int | None = None) -> Writer:
    opened = writer(path(name), files, mode)
    if at is not None:
        opened.seek(at)
    for piece in pieces:
        opened.write(piece)
    return opened


class TestWriter:
    def test_what_comes_can_be_seen_and_is_partial_until_it_is_finished(self, files):
        writer = upload(files, "x", b"12", b"34")
        assert files["x"] == b"1234"
        assert files.partial == ("x",)
        writer.finish()
        writer.close()
        assert files.partial == ()
        assert files["x"] == b"1234"
        assert writer.sha256 == hashlib.sha256(b"1234").hexdigest()
        assert (writer.name, writer.closed) == ("/x", True)

    def test_one_that_is_cut_stays_partial(self, files):
        upload(files, "d/x", b"12").close()
        assert files.partial == ("d/x",)
        assert files["d/x"] == b"12"
        files["d/x"] = b"set by hand"
        assert files.partial == ()

    def test_overwriting_begins_anew(self):
        files = Tree({"x": b"before"})
        upload(files, "x", b"12").close()
        assert files["x"] == b"12"
        assert files.used == 2

    def test_append(self):
        files = Tree({"x": b"before"})
        writer = upload(files, "x", b"12", mode="ab")
        assert files["x"] == b"before12"
        assert writer.sha256 == hashlib.sha256(b"12").hexdigest()
        upload(files, "new", b"3", mode="ab")
        assert files["new"] == b"3"

    @pytest.mark.parametrize(
        ("at", "piece", "content"),
        [
            (0, b"X", b"X12345"),
            (3, b"XY", b"012XY5"),
            (5, b"XY", b"01234XY"),
            (6, b"XY", b"012345XY"),
            (2, b"X" * 9, b"01" + b"X" * 9),
        ],
    )
    def test_in_the_middle(self, at, piece, content):
        files = Tree({"x": b"012345"})
        upload(files, "x", piece, mode="r+b", at=at)
        assert files["x"] == content
        assert files.used == len(content)

    @pytest.mark.parametrize("mode", ["ab", "r+b"])
    def test_one_that_nothing_came_for_is_as_whole_as_it_was(self, mode):
        files = Tree({"x": b"before"})
        upload(files, "x", mode=mode).close()
        assert files["x"] == b"before"
        assert files.partial == ()
        upload(files, "x", b"1", mode=mode).close()
        assert files.partial == ("x",)
        upload(files, "x", mode=mode).close()
        assert files.partial == ("x",)

    def test_discard_brings_back_what_was_there(self):
        files = Tree({"x": b"before"})
        for mode in ("wb", "ab", "r+b"):
            writer = upload(files, "x", b"12", mode=mode)
            writer.discard()
            writer.close()
            assert files["x"] == b"before"
            assert files.used == 6
            assert files.partial == ()
        upload(files, "new", b"12").discard()
        assert "new" not in files
        assert files.used == 6

    def test_discard_of_what_is_not_there_any_more(self, files):
        writer = upload(files, "x", b"12")
        del files["x"]
        writer.discard()
        assert "x" not in files
        files["x"] = b"another"
        writer.discard()
        assert files["x"] == b"another"

    def test_two_at_a_time_the_last_one_stays(self, files):
        one_, two = upload(files, "x", b"1"), upload(files, "x", b"2")
        one_.write(b"1")
        two.write(b"2")
        one_.finish()
        one_.close()
        assert files["x"] == b"22"
        assert files.partial == ("x",)
        assert files.used == 2

    def test_a_file_that_is_moved_while_it_comes(self, files):
        files["d/"] = b""
        writer = upload(files, "x", b"12")
        files.rename("/x", "/d/y")
        writer.write(b"34")
        assert files["d/y"] == b"1234"
        assert files.used == 4
        files.rename("/d", "/e")
        writer.write(b"5")
        assert files["e/y"] == b"12345"
        assert files.used == 5
        del files["e/y"]
        assert files.used == 0

    def test_a_time_for_each_write(self, files):
        writer = upload(files, "x")
        files.time = 5000
        writer.write(b"1")
        assert files.modified("/x") == 5000

    def test_reading_while_it_comes_is_a_copy(self, files):
        writer = upload(files, "x", b"12")
        before = files["x"]
        writer.write(b"34")
        assert before == b"12"


class Vanishing(Tree):
    """Files that a test removes just after the server has looked."""

    def node(self, where: str) -> Node | None:
        found = super().node(where)
        self.pop(where, None)
        return found


@pytest.mark.parametrize(
    "work",
    [
        lambda fs: fs.remove("/a"),
        lambda fs: fs.utime("/a", 5),
        lambda fs: fs.stat("/a"),
        lambda fs: list(fs.format_list("/", ["a"])),
        lambda fs: list(fs.format_mlsx("/", ["a"], "r", ["type", "unix.mode"])),
    ],
    ids=["remove", "utime", "stat", "list", "mlsd"],
)
def test_a_file_that_is_removed_meanwhile_is_no_fault_of_ours(work):
    files = Vanishing({"a": b"1"})
    session = SimpleNamespace(
        host=SimpleNamespace(files=files), use_gmt_times=True, encoding="utf8", unicode_errors="replace"
    )
    with contextlib.suppress(FilesystemError):  # what clients are told with a 550
        work(MemoryFS("/", session))
    assert files.sizes() == {}


@pytest.mark.parametrize(
    "work", [lambda fs: fs.chmod("/a", 0o600), lambda fs: fs.rename("/a", "/b")], ids=["chmod", "rename"]
)
def test_what_is_done_is_done_to_a_file_that_is_there(work):
    files, done = Vanishing({"a": b"1"}), False
    with contextlib.suppress(FilesystemError):
        work(MemoryFS("/", SimpleNamespace(host=SimpleNamespace(files=files))))
        done = True
    assert done is bool(files.sizes())


def test_what_is_not_there_has_no_mode_and_no_other_name(files):
    with pytest.raises(KeyError):
        files.set_mode("/a", 0o600)
    with pytest.raises(KeyError):
        files.rename("/a", "/b")
    files.make_directories("/a")
    assert files.mode("/a") == 0o755


@pytest.mark.parametrize(("listing", "more"), [("format_list", ()), ("format_mlsx", ("elr", ("size",)))])
def test_a_file_that_is_removed_during_a_listing_is_left_out(files, listing, more):
    """A long listing is made piece by piece, and other clients go on."""
    files.update(dict.fromkeys("abc", b"1"))
    session = SimpleNamespace(
        host=SimpleNamespace(files=files), use_gmt_times=True, encoding="utf8", unicode_errors="replace"
    )
    lines = getattr(MemoryFS("/", session), listing)("/", ["a", "b", "c"], *more)
    first = next(lines)
    del files["b"]
    assert [line.split()[-1] for line in (first, *lines)] == [b"a", b"c"]


memfd = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="only Linux has such files")
PAGES = Path("/sys/kernel/mm/transparent_hugepage")


def has_huge_pages() -> bool:
    """True if this system can move a file in memory into huge pages, of the size that most processors have."""
    version = tuple(int(number) for number in re.findall(r"\d+", os.uname().release)[:2])
    if version < (6, 1) or not (PAGES / "shmem_enabled").exists():
        return False
    return int((PAGES / "hpage_pmd_size").read_text()) == HUGE and "[deny]" not in (PAGES / "shmem_enabled").read_text()


def in_huge_pages(descriptor: int, size: int) -> int:
    """The bytes of a system file that lie in huge pages, as Linux counts them for a mapping."""
    with content.aligned(descriptor, -(-size // HUGE) * HUGE) as (mapping, begin):
        for at in range(begin, begin + size, HUGE):
            assert len(mapping[at : at + 1]) == 1
        maps = Path("/proc/self/smaps").read_text().partition("/memfd:notnow ")[2]
    return 1024 * int(maps.partition("ShmemPmdMapped:")[2].split()[0])


class TestReader:
    def test_reads_and_seeks(self):
        files = Tree({"x": b"0123456789"})
        reader = Reader("/x", files.node("/x"))
        assert reader.read(4) == b"0123"
        reader.seek(8)
        assert reader.read(4) == b"89"
        assert reader.read(4) == b""
        reader.close()
        assert (reader.closed, reader.name) == (True, "/x")

    def test_it_has_the_file_as_it_was(self):
        files = Tree({"x": b"before"})
        reader = Reader("/x", files.node("/x"))
        upload(files, "x", b"after").close()
        assert reader.read(3) == b"bef"
        del files["x"]
        assert reader.read(1_000_000) == b"ore"

    @memfd
    @pytest.mark.parametrize("name", ["memfd_create", "write"])
    def test_a_big_one_where_the_system_has_no_file_for_it(self, name, monkeypatch):
        def refuse(*_: object) -> int:
            raise OSError(errno.EMFILE, "no")

        files = Tree({"x": "1MB"})
        reader = Reader("/x", files.node("/x"))
        with monkeypatch.context() as patch:
            patch.setattr(os, name, refuse)
            assert reader.descriptor() == -1
        assert reader.read(1_000_000) == files["x"] == filling(1_000_000)

    @memfd
    @pytest.mark.parametrize("size", [HUGE // 2, HUGE, HUGE * 3 // 2 - 1, HUGE * 3 // 2, 5 * HUGE + 1, MOST_MOVED])
    @pytest.mark.parametrize("there", [True, False], ids=["there", "not there"])
    def test_a_big_one_lies_in_huge_pages(self, size, there, monkeypatch):
        """As far as the system has some: its content is the same, and it takes less than half a page more."""
        if not there:
            monkeypatch.setattr(content, "COLLAPSE", 9999)
        files = Tree({"x": f"{size}B"})
        reader = Reader("/x", files.node("/x"))
        descriptor = reader.descriptor()
        assert os.pread(descriptor, size, 0) == reader.read(size + 1) == filling(size)
        assert os.fstat(descriptor).st_blocks * 512 <= size + HUGE // 2 + 4096
        moved = round(size / HUGE) * HUGE if there and has_huge_pages() else 0
        if in_huge_pages(descriptor, size) != moved:  # then it has none left
            with content.aligned(descriptor, moved) as (mapping, begin), pytest.raises(OSError) as failed:
                mapping.madvise(COLLAPSE, begin, moved)
            assert failed.value.errno in {errno.ENOMEM, errno.EAGAIN, errno.EBUSY}

    @memfd
    def test_its_place_in_memory_is_a_multiple_whatever_gaps_there_are(self):
        others = [mmap.mmap(-1, (n % 40 + 1) * HUGE // 8) for n in range(200)]
        for gap in others[::2]:
            gap.close()
        files = Tree({"x": f"{4 * HUGE}B"})
        whole, descriptor = files["x"], files.node("/x").descriptor()
        for eighths in range(8, 33):
            length = eighths * HUGE // 8
            with content.aligned(descriptor, length) as (mapping, begin):
                assert (ctypes.addressof(ctypes.c_char.from_buffer(mapping)) + begin) % HUGE == 0
                assert mapping[begin : begin + length] == whole[:length]
        for other in others[1::2]:
            other.close()

    @memfd
    def test_one_that_would_take_long_stays_where_it_is(self, monkeypatch):
        monkeypatch.setattr(content, "MOST_MOVED", HUGE - 1)
        files = Tree({"x": bytes(HUGE)})
        assert in_huge_pages(files.node("/x").descriptor(), HUGE) == 0

    def test_of_an_upload_that_is_under_way(self, files):
        writer = upload(files, "x", b"12")
        reader = Reader("/x", files.node("/x"))
        writer.write(b"34")
        assert reader.read(1_000_000) == b"12"


class TestQuota:
    def test_room_is_what_the_quota_leaves(self):
        files = Tree({"a": b"x" * 60}, quota=100)
        writer = upload(files, "x", b"x" * 40)
        with pytest.raises(NoRoomError):
            writer.write(b"x")
        assert files.used == 100
        assert len(files["x"]) == 40

    def test_overwriting_frees_what_was_there(self):
        files = Tree({"x": b"x" * 90}, quota=100)
        upload(files, "x", b"y" * 100)
        assert files.used == 100

    def test_so_do_deleting_and_renaming_onto(self):
        files = Tree({"a": b"x" * 50, "b": b"x" * 50}, quota=100)
        files.rename("/a", "/b")
        assert files.used == 50
        files.rename("/b", "/b")
        assert files.used == 50
        files.remove("/b")
        assert files.used == 0
        upload(files, "c", b"y" * 100)

    def test_overwriting_in_the_middle_takes_nothing(self):
        files = Tree({"x": b"x" * 100}, quota=100)
        writer = upload(files, "x", b"y" * 50, mode="r+b", at=50)
        assert files.used == 100
        with pytest.raises(NoRoomError):
            writer.write(b"y")

    def test_a_file_that_is_deleted_while_it_comes_is_bounded_too(self):
        files = Tree(quota=100)
        writer = upload(files, "x", b"x" * 60)
        del files["x"]
        assert files.used == 0
        writer.write(b"x" * 40)
        with pytest.raises(NoRoomError):
            writer.write(b"x")
        assert files.used == 0

    def test_none_is_as_much_as_a_test_could_need(self):
        files = Tree({"iso": "700MB"})  # takes no memory, and so no room
        with pytest.raises(NoRoomError, match=f"{ROOM} bytes"):
            upload(files, "x", b"x" * (ROOM + 1))
        upload(files, "x", b"x" * ROOM)
        with pytest.raises(NoRoomError):
            upload(files, "y", b"y")
        with pytest.raises(NoRoomError):
            upload(Tree(quota=0), "x", b"x")

    @pytest.mark.parametrize("mode", ["ab", "r+b"])
    def test_a_made_up_file_that_an_upload_changes_takes_room(self, mode):
        files = Tree({"big": "700MB", "small": "1MB"})
        writer = upload(files, "big", mode=mode)
        with pytest.raises(NoRoomError):
            writer.write(b"x")
        assert files.size("big") == 700_000_000
        upload(files, "small", b"x", mode=mode).close()
        assert files.made_up == files.size("big")
        expected = filling(1_000_000) + b"x" if mode == "ab" else b"x" + filling(1_000_000)[1:]
        assert files["small"] == expected

    def test_with_a_quota_made_up_files_count(self):
        files = Tree({"big": "5MB"}, quota=5_000_010)
        upload(files, "x", b"x" * 10)
        with pytest.raises(NoRoomError):
            upload(files, "y", b"y")

    def test_tests_may_put_more_than_clients(self):
        files = Tree({"a": b"x" * 150}, quota=100)
        files["b"] = b"x" * 50
        assert files.used == 200
        with pytest.raises(NoRoomError):
            upload(files, "c", b"x")


class TestRename:
    def test_a_directory_with_all_that_is_in_it(self):
        files = Tree({"a/b/c": b"1", "a/d": b"2", "ab/e": b"3", "a2": b"4"})
        files.rename("/a", "/z")
        assert dict(files) == {"z/b/c": b"1", "z/d": b"2", "ab/e": b"3", "a2": b"4"}
        assert not files.is_directory("/a")
        assert files.is_directory("/z/b")
        assert files.children("/z") == ["b", "d"]

    def test_a_file_keeps_its_time(self, files):
        files["a"] = b""
        files.time = 2000
        files.rename("/a", "/b")
        assert files.modified("/b") == 1000

    def test_a_partial_file_stays_partial(self, files):
        upload(files, "a", b"1").close()
        files.rename("/a", "/b")
        assert files.partial == ("b",)


class TestOfAFake:
    def test_by_default(self):
        with FakeFTP() as fake:
            assert list(fake.files) == ["big.bin", "small.txt"] == sorted(DEFAULT)
            assert (len(fake.files["big.bin"]), fake.files["small.txt"]) == (BIG, b"A small file.\n")

    def test_those_that_are_given(self):
        with FakeFTP(files={"a.txt": b"\0", "/d/b.bin": "2KB", "e/": b""}) as fake, Raw(fake).hello() as raw:
            assert raw.get("NLST") == b"a.txt\r\nd\r\ne\r\n"
            assert raw.get("RETR d/b.bin") == fake.files["d/b.bin"] == filling(2000)
        with FakeFTP(files={}) as fake, Raw(fake).hello() as raw:
            assert raw.get("NLST") == b""

    def test_those_of_a_scenario_and_what_is_given_goes_first(self):
        scenario = rules(head='[server]\nfiles = { "a.txt" = "text", "b.bin" = "1KB" }')
        with FakeFTP(scenario) as fake:
            assert dict(fake.files) == {"a.txt": b"text", "b.bin": filling(1000)}
        with FakeFTP(scenario, files={"c": b"1"}) as fake:
            assert list(fake.files) == ["c"]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"a": 5}, "files: 'a' is 5; allowed: bytes"), ({"a": b"", "a/b": b""}, "files: 'a' is a file"), ({"": b""}, "files: '' is a directory"),
            ({"x": "99GB"}, "files: 'x' is 99GB"), ("a.txt", "files is 'a.txt'; allowed: a mapping of paths"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_a_tree_is_told_at_once(self, given, message):
        with pytest.raises(ScenarioError, match=message):
            FakeFTP(files=given)

    def test_of_a_scenario_too_and_then_nothing_has_changed(self, tmp_path):
        bad = tmp_path / "bad.toml"
        bad.write_text('protocol = "ftp"\n[server]\nfiles = { "a" = "", "a/b" = "" }\n')
        with pytest.raises(ScenarioError, match=r"bad.toml:3: server.files: .*'a' is a file"):
            FakeFTP(str(bad))
        with FakeFTP() as fake:
            with pytest.raises(ScenarioError, match="'a' is a file"):
                fake.play(str(bad))
            assert fake.scenario.name == "ftp/healthy"
            assert list(fake.files) == ["big.bin", "small.txt"]

    def test_what_a_test_puts_there_is_served_at_once_and_the_other_way_round(self):
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            fake.files["new/a.txt"] = "from the test"
            assert raw.get("RETR new/a.txt") == b"from the test"
            assert raw.put("STOR new/b.txt", b"from the client")[:3] == "226"
            assert fake.files["new/b.txt"] == b"from the client"
            del fake.files["new/a.txt"]
            assert raw.code("SIZE new/a.txt") == "550"

    def test_reset_brings_back_how_it_was_for_live_sessions_too(self):
        with FakeFTP(files={"a": b"1", "d/": b""}) as fake, Raw(fake).hello() as raw:
            assert raw.code("CWD d") == "250"
            raw.put("STOR x", b"1")
            raw.code("DELE /a")
            fake.reset()
            assert dict(fake.files) == {"a": b"1"}
            assert fake.journal.exchanges == ()
            assert raw.put("STOR x", b"2")[:3] == "226"
            assert fake.files["d/x"] == b"2"
            assert raw.get("RETR /a") == b"1"

    def test_reset_amid_an_upload(self):
        with FakeFTP(files={}) as fake, Raw(fake).hello() as raw, raw.data() as data:
            assert raw.code("STOR x")[0] == "1"
            data.send(b"123")
            fake.wait_for(lambda j: fake.files.get("x") == b"123")
            fake.reset()
            data.send(b"456")
            data.end()
            assert raw.code() == "226"
            assert "x" not in fake.files  # it came to the tree that is forgotten

    def test_a_scenario_that_is_played_brings_its_files_and_its_quota(self):
        scenario = rules(head='[server]\nquota = "10B"\nfiles = { "mine.txt" = "x" }')
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            raw.put("STOR kept", b"1")
            with fake.playing(scenario):
                assert list(fake.files) == ["big.bin", "kept", "mine.txt", "small.txt"]
                assert raw.get("RETR mine.txt") == b"x"
                assert raw.put("STOR new", b"1").startswith("552")
            assert raw.put("STOR new", b"1").startswith("226")
            assert "mine.txt" in fake.files
        fake = FakeFTP(files={"a": b""})
        fake.play(scenario)
        assert fake.files.quota == 10
        assert list(fake.files) == ["a"]  # what was given goes first

    def test_what_a_client_has_put_where_a_scenario_has_something_else_goes(self):
        scenario = rules(head='[server]\nfiles = { "d/x" = "1", "e" = "2", "f/g/" = "" }')
        with FakeFTP(files=None) as fake, Raw(fake).hello() as raw:
            for name in ("d", "f"):
                raw.put(f"STOR {name}", b"a file")
            raw.code("MKD e")
            raw.put("STOR e/below", b"1")
            fake.play(scenario)
            assert fake.scenario.name == "test"
            assert sorted(fake.files) == ["big.bin", "d/x", "e", "small.txt"]
            assert (fake.files["d/x"], fake.files["e"]) == (b"1", b"2")
            assert raw.code("CWD f/g") == "250"
            assert fake.files.used == 3_000_000 + len("A small file.\n") + 2

    def test_no_room(self):
        scenario = rules(head='[server]\nquota = "1MB"\nfiles = { "a" = "600KB" }')
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            assert raw.put("STOR b", b"x" * 400_000)[:3] == "226"
            for line in ("STOR c", "APPE a"):
                assert raw.put(line, b"x") == "552 Requested file action aborted: exceeded storage allocation."
            assert fake.files.partial == ("c",)  # nothing has been added to a
            assert raw.code("DELE b") == "250"
            assert raw.put("STOR c", b"x" * 400_000)[:3] == "226"
            retr = [x.facts for x in fake.journal if x.moment == "stor"]
            assert [facts.whole for facts in retr] == [True, False, True]
            assert retr[1].data == "drain"

    def test_no_room_for_what_still_comes_is_told_when_it_is_seen_and_the_client_may_go_on_sending(self):
        with FakeFTP(rules(head='[server]\nquota = "100KB"\nfiles = {}')) as fake, Raw(fake).hello() as raw:
            with raw.data() as data:
                assert raw.code("STOR x")[0] == "1"
                for _ in range(50):
                    data.send(b"x" * 100_000)
                assert raw.code() == "552"
                data.end()
            assert len(fake.files["x"]) <= 100_000

    def test_a_quota_counts_what_is_kept_after_a_cut(self):
        scenario = rules(
            one("stor", after_bytes=60, keep=False, reply="426 cut"), head='[server]\nquota = "100B"\nfiles = {}'
        )
        with FakeFTP(scenario) as fake, Raw(fake).hello() as raw:
            for _ in range(5):
                with raw.data() as data:
                    assert raw.code("STOR x")[0] == "1"
                    data.send(b"x" * 80)
                    assert raw.code() == "426"
            assert fake.files.used == 0

    def test_while_others_upload_they_can_be_read(self, often):
        with FakeFTP(files={}) as fake:
            done = threading.Event()

            def upload_(n: int) -> None:
                with Raw(fake).hello() as raw:
                    i = 0
                    while not done.is_set():
                        i = (i + 1) % 20
                        raw.put(f"STOR {n}-{i}", b"x" * 10_000)
                        raw.code(f"RNFR {n}-{i}")
                        raw.code(f"RNTO {n}-{i}.new")

            threads = [threading.Thread(target=upload_, args=(n,)) for n in range(3)]
            for thread in threads:
                thread.start()
            for _ in range(300):
                assert all(len(content) in range(10_001) for content in list(fake.files.values()))
                assert set(fake.files.partial) <= {f"{n}-{i}" for n in range(3) for i in range(20)}
                assert set(fake.files.sizes().values()) <= set(range(10_001))
                repr(fake.files)
            done.set()
            for thread in threads:
                thread.join()
            assert fake.files.used == sum(map(len, fake.files.values()))

    def test_the_tree_outlives_the_fake(self):
        with FakeFTP() as fake, Raw(fake).hello() as raw:
            raw.put("STOR x", b"1")
        assert fake.files["x"] == b"1"

    def test_files_are_an_option_of_ftp_only(self):
        from notnow import FakeSMTP

        with pytest.raises(ScenarioError, match="'files' is no option of smtp servers"):
            FakeSMTP(files={})

    def test_two_fakes_share_nothing(self):
        with FakeFTP() as a, FakeFTP() as b, Raw(a).hello() as raw:
            raw.put("STOR x", b"1")
            assert "x" in a.files
            assert "x" not in b.files

    def test_times_are_scenario_time(self):
        clock = ManualClock()
        with FakeFTP(clock=clock) as fake, Raw(fake).hello() as raw:
            clock.advance("365d")
            raw.put("STOR x", b"1")
            assert fake.files.modified("/x") == clock.epoch + 365 * 86_400
