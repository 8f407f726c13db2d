"""tools/image.py, on a root that is made up: the image layout by the rules of OCI's specification. Nothing is installed here."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli_process import Notnow
from notnow._version import __version__

SCRIPT = Path(__file__).resolve().parents[1] / "tools" / "image.py"
EXAMPLES = Path(__file__).parent / "examples" / "container"
EPOCH = 1_700_000_000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for folder in ("usr/bin", "etc", "dev/shm", "var/log/apt", "tmp"):
        (root / folder).mkdir(parents=True)
    (root / "usr/bin/python3.11").write_bytes(b"a program")
    (root / "usr/bin/python3.11").chmod(0o755)
    (root / "usr/bin/python3").symlink_to("python3.11")
    os.link(root / "usr/bin/python3.11", root / "usr/bin/zz")
    os.utime(root / "usr/bin/python3.11", (EPOCH - 5, EPOCH - 5))
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    for left_out in ("etc/resolv.conf", "etc/hostname", "var/log/apt/history.log", "tmp/x"):
        (root / left_out).write_text("of the machine that builds")
    return root


def build(root: Path, archive: Path) -> dict[str, bytes]:
    """The files of the archive."""
    command = [sys.executable, str(SCRIPT), "--root", str(root), str(archive)]
    done = subprocess.run(
        command, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(archive) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]


def blob(files: dict[str, bytes], descriptor: dict[str, Any]) -> bytes:
    """What a descriptor describes, after a look at its digest and its size (image-spec, descriptor.md)."""
    assert descriptor.keys() >= {"mediaType", "digest", "size"}
    data = files["blobs/" + descriptor["digest"].replace(":", "/")]
    assert descriptor["digest"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert descriptor["size"] == len(data)
    return data


def test_the_layout(root: Path, tmp_path: Path) -> None:
    files = build(root, tmp_path / "image.tar")
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    assert (index["schemaVersion"], index["mediaType"]) == (2, "application/vnd.oci.image.index.v1+json")
    [described] = index["manifests"]
    assert described["annotations"]["org.opencontainers.image.ref.name"] == __version__
    manifest = json.loads(blob(files, described))
    assert (manifest["schemaVersion"], manifest["mediaType"]) == (2, described["mediaType"])
    assert manifest["config"]["mediaType"] == "application/vnd.oci.image.config.v1+json"
    config = json.loads(blob(files, manifest["config"]))
    [layer] = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    plain = gzip.decompress(blob(files, layer))
    assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(plain).hexdigest()}"]}
    assert len(config["history"]) == 1
    assert len(files) == 2 + 3  # and no blob that nothing describes
    assert (config["os"], config["created"]) == ("linux", "2023-11-14T22:13:20Z")
    how = config["config"]
    assert how["Entrypoint"] == ["notnow"]
    assert how["User"].partition(":")[0] not in ("", "0", "root")
    assert "8421/tcp" in how["ExposedPorts"]


def test_the_layer(root: Path, tmp_path: Path) -> None:
    files = build(root, tmp_path / "image.tar")
    index = json.loads(files["index.json"])
    manifest = json.loads(blob(files, index["manifests"][0]))
    with tarfile.open(fileobj=io.BytesIO(blob(files, manifest["layers"][0]))) as tar:
        members = {member.name: member for member in tar}
        expected = "dev etc etc/passwd tmp usr usr/bin usr/bin/python3 usr/bin/python3.11 usr/bin/zz var var/log"
        assert sorted(members) == expected.split()
        assert (members["usr/bin/python3"].type, members["usr/bin/python3"].linkname) == (tarfile.SYMTYPE, "python3.11")
        assert (members["usr/bin/zz"].type, members["usr/bin/zz"].linkname) == (tarfile.LNKTYPE, "usr/bin/python3.11")
        program = members["usr/bin/python3.11"]
        assert (program.mode, program.mtime) == (0o755, EPOCH - 5)
        assert tar.extractfile(program).read() == b"a program"  # type: ignore[union-attr]
        assert {member.mtime for member in members.values()} == {EPOCH - 5, EPOCH}
        assert {member.uname + member.gname for member in members.values()} == {""}


def test_the_same_root_gives_the_same_bytes(root: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.tar", tmp_path / "2.tar"
    build(root, first)
    build(root, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("example", ["shared", "published"])
def test_the_commands_of_the_documentation_without_the_container(example: str) -> None:
    words = shlex.split((EXAMPLES / f"{example}.sh").read_text("utf-8"))
    arguments = words[words.index(f"notnow:{__version__}") + 1 :]
    free = [re.sub(r"^(.*:)?\d{4}$", r"\g<1>0", word) for word in arguments]  # any port, in place of theirs
    with Notnow(*free, "--json", NOTNOW_TOKEN="a-token-of-the-user") as told:
        control, fake = told.event(), told.event()
        reached = "0.0.0.0" if example == "published" else "127.0.0.1"
        assert reached in control["url"]
        assert (fake["host"], fake["scenario"]) == (reached, "smtp/overload")
        status = httpx.get(f"{control['url'].replace('0.0.0.0', '127.0.0.1')}/v1/servers", trust_env=False).status_code
        assert status == (401 if example == "published" else 200)
        assert told.stop()[0] == 0
