"""A directory behind a fake FTP server: read once, bounded, and never left through a link."""

from __future__ import annotations

import ftplib
import io
import os
from pathlib import Path

import pytest

from notnow import FakeFTP
from notnow.errors import ScenarioError
from notnow.servers.ftp import directory

links = pytest.mark.skipif(os.name == "nt", reason="links need a privilege there")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "in" / "deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a.txt").write_bytes(b"a\r\n")
    (root / "in" / "deep" / "b.bin").write_bytes(bytes(range(256)))
    return root


@pytest.mark.usefixtures("each_loop")
def test_clients_get_a_copy_and_the_directory_stays_as_it_is(tree: Path) -> None:
    with FakeFTP(files=tree) as fake, ftplib.FTP() as ftp:
        ftp.connect(fake.host, fake.port)
        ftp.login()
        (tree / "a.txt").write_bytes(b"changed later")
        got = io.BytesIO()
        ftp.retrbinary("RETR in/deep/b.bin", got.write)
        ftp.retrbinary("RETR a.txt", got.write)
        assert got.getvalue() == bytes(range(256)) + b"a\r\n"
        ftp.storbinary("STOR empty/new.txt", io.BytesIO(b"new"))
        ftp.delete("a.txt")
        assert sorted(fake.files) == ["empty/new.txt", "in/deep/b.bin"]
        fake.reset()
        assert sorted(fake.files) == ["a.txt", "in/deep/b.bin"]
    assert (tree / "a.txt").read_bytes() == b"changed later"
    assert list((tree / "empty").iterdir()) == []


def test_the_tree_has_its_files_and_directories(tree: Path) -> None:
    content = {"a.txt": b"a\r\n", "empty/": b"", "in/": b"", "in/deep/": b"", "in/deep/b.bin": bytes(range(256))}
    assert directory.read(tree) == content


@links
def test_links_are_followed_within_the_directory_only(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"secret")
    (tmp_path / "site-2").mkdir()
    (tree / "out.txt").symlink_to(tmp_path / "secret.txt")
    (tree / "up").symlink_to("..")
    (tree / "beside").symlink_to(tmp_path / "site-2")
    (tree / "passwd").symlink_to("/etc/passwd")
    (tree / "in" / "same.bin").symlink_to("deep/b.bin")
    (tree / "also").symlink_to("in/deep")
    (tree / "in" / "back").symlink_to("..")
    (tree / "round").symlink_to("round")
    (tree / "gone").symlink_to("nowhere")
    os.mkfifo(tree / "pipe")
    found = set(directory.read(tree))
    plain = {"a.txt", "empty/", "in/", "in/deep/", "in/deep/b.bin"}
    assert found == plain | {"in/same.bin", "also/", "also/b.bin"}


@links
def test_the_directory_itself_may_be_a_link(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    assert set(directory.read(tmp_path / "link")) == set(directory.read(tree))


def test_a_directory_that_is_none(tree: Path) -> None:
    for path in (tree / "nowhere", tree / "a.txt"):
        with pytest.raises(ScenarioError, match="is not a directory; allowed: a directory with at most 10,000 entries"):
            FakeFTP(files=path)


def test_a_directory_that_is_too_big(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bound, most in (("ENTRIES", 4), ("KEPT_BODIES", 258)):
        with monkeypatch.context() as patched, pytest.raises(ScenarioError, match="is too big"):
            patched.setattr(directory, bound, most)
            directory.read(tree)
    monkeypatch.setattr(directory, "ENTRIES", 5)
    monkeypatch.setattr(directory, "KEPT_BODIES", 259)
    assert len(directory.read(tree)) == 5


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read(tree: Path) -> None:
    (tree / "a.txt").chmod(0)
    with pytest.raises(ScenarioError, match=r"files: cannot read '.*a\.txt': Permission denied"):
        directory.read(tree)


def test_a_text_is_no_directory(tree: Path) -> None:
    """What arrives as text, from a file or over the network, never becomes a path."""
    with pytest.raises(
        ScenarioError, match="files is '.*'; allowed: a mapping of paths to bytes, or the Path of a directory"
    ):
        FakeFTP(files=str(tree))
