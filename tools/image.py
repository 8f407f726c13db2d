#!/usr/bin/env python3
"""Build an OCI image of notnow from Debian's packages and our wheel, without a container engine.

It needs root, mmdebstrap (Debian's package), and a Python with pip; from this module on, the standard library does. The result is
an archive that podman, skopeo and Docker (25 or later) load. The same packages and the same commit give the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}  # as Python calls them, and as OCI does
GLIBC = 36  # Debian 12 has 2.36: wheels for it, or for an older one
USER = 1000
PORTS = (8421, 2525, 2121, 8443)  # those of the documentation: control API, SMTP, FTP, HTTPS
UNWANTED = ("doc/*", "info/*", "locale/*", "man/*")  # in /usr/share
# What belongs to the machine that builds, or is made anew when a container starts.
LEFT_OUT = ("dev", "proc", "run", "sys", "tmp", "var/cache", "var/log", "var/tmp", "etc/hostname", "etc/resolv.conf")
LAUNCHER = "#!/usr/bin/python3\nfrom notnow.cli import main\n\nmain()\n"
MEDIA = "application/vnd.oci.image"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("archive", type=Path, help="the file to write, such as notnow.oci.tar")
    parser.add_argument("--suite", default="bookworm", help="the release of Debian (default: %(default)s)")
    parser.add_argument("--root", type=Path, help="make the image of this directory, and install nothing into it")
    given = parser.parse_args()
    version = _version()
    with tempfile.TemporaryDirectory() as place:
        root = given.root or Path(place, "root")
        if given.root is None:
            install_debian(root, given.suite)
            install_notnow(root, Path(place))
        write_image(root, given.archive, version, _epoch())
    print(f"{given.archive}: {given.archive.stat().st_size / 1e6:.1f} MB")


# ---- the root file system ------------------------------------------------------------------------


def install_debian(root: Path, suite: str) -> None:
    """Debian's essential packages and its Python."""
    options = [f"--dpkgopt=path-exclude=/usr/share/{path}" for path in UNWANTED]
    options += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    _run("mmdebstrap", "--variant=essential", "--include=python3", *options, suite, root)


def install_notnow(root: Path, place: Path) -> None:
    """Our wheel and what it needs, for the Python of the root; the command; and a user who is not root."""
    wanted = f"{REPOSITORY}[control,shared,uvloop]"
    _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--wheel-dir", place, wanted)  # some have no wheel elsewhere
    python = str((root / "usr/bin/python3").readlink())  # such as python3.11
    packages = root / "usr/local/lib" / python / "dist-packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--only-binary=:all:"]
    version = f"--python-version={python.removeprefix('python')}"
    wheel = next(place.glob("notnow-*.whl"))
    _run(
        *pip, f"--find-links={place}", f"--target={packages}", version, *_platforms(), f"{wheel}[control,shared,uvloop]"
    )
    shutil.rmtree(packages / "bin")  # scripts for the Python that builds
    for trace in packages.glob("*.dist-info/direct_url.json"):  # where the wheel lay on this machine
        trace.unlink()
    launcher = root / "usr/local/bin/notnow"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    compiled = "/" + str(packages.relative_to(root))
    # By content, not by the time of the file, which is another one in the image.
    _run("chroot", root, "python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", compiled)
    with (root / "etc/passwd").open("a") as passwd:
        passwd.write(f"notnow:x:{USER}:{USER}::/work:/usr/sbin/nologin\n")
    (root / "work").mkdir()
    os.chown(root / "work", USER, USER)


def _platforms() -> list[str]:
    machine = platform.machine()
    return [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(GLIBC, 4, -1)] + [
        f"--platform=manylinux2014_{machine}"
    ]


# ---- the image -----------------------------------------------------------------------------------


def write_image(root: Path, archive: Path, version: str, epoch: int) -> None:
    """Write the image of a root file system: an archive of an OCI image layout. No file is newer than `epoch` (seconds)."""
    blobs: dict[str, bytes] = {}
    layer, plain = _layer(root, epoch)
    created = datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    config = {
        "created": created,
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {
            "User": f"{USER}:{USER}",
            "ExposedPorts": {f"{port}/tcp": {} for port in PORTS},
            "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/work"],
            "Entrypoint": ["notnow"],
            "Cmd": ["serve", "--control", "8421"],
            "WorkingDir": "/work",
            "StopSignal": "SIGTERM",
            "Labels": {"org.opencontainers.image.title": "notnow", "org.opencontainers.image.version": version},
        },
        "rootfs": {"type": "layers", "diff_ids": [plain]},
        "history": [{"created": created, "created_by": "tools/image.py"}],
    }
    manifest: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": _blob(blobs, _json(config), f"{MEDIA}.config.v1+json"),
        "layers": [_blob(blobs, layer, f"{MEDIA}.layer.v1.tar+gzip")],
    }
    names = {
        "org.opencontainers.image.ref.name": version,
        "io.containerd.image.name": f"docker.io/library/notnow:{version}",
    }
    index = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.index.v1+json",
        "manifests": [_blob(blobs, _json(manifest), manifest["mediaType"]) | {"annotations": names}],
    }
    files = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"}), "index.json": _json(index)}
    with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in (*files.items(), *((f"blobs/sha256/{digest}", data) for digest, data in blobs.items())):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), epoch
            tar.addfile(member, io.BytesIO(data))


def _layer(root: Path, epoch: int) -> tuple[bytes, str]:
    """The root as a compressed archive, and the digest of what it is uncompressed."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in _paths(root):
            member = tar.gettarinfo(path, str(path.relative_to(root)))
            member.uname = member.gname = ""
            member.mtime = min(int(member.mtime), epoch)
            if member.isreg():
                with path.open("rb") as file:
                    tar.addfile(member, file)
            else:
                tar.addfile(member)
    return gzip.compress(plain.getbuffer(), 6, mtime=0), _digest(plain.getbuffer())


def _paths(directory: Path, root: Path | None = None) -> Iterator[Path]:
    """Everything under a directory, sorted; of a directory that is left out, itself alone."""
    root = root or directory
    for path in sorted(directory.iterdir()):
        left_out = str(path.relative_to(root)) in LEFT_OUT
        is_directory = path.is_dir() and not path.is_symlink()
        if is_directory or not left_out:
            yield path
        if is_directory and not left_out:
            yield from _paths(path, root)


def _blob(blobs: dict[str, bytes], data: bytes, media_type: str) -> dict[str, Any]:
    """Add a blob; its descriptor."""
    digest = _digest(data)
    blobs[digest.removeprefix("sha256:")] = data
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def _digest(data: bytes | memoryview) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1).encode()


# ---- of this checkout ----------------------------------------------------------------------------


def _version() -> str:
    text = (REPOSITORY / "fakes" / "notnow" / "_version.py").read_text("utf-8")
    return text.partition('__version__ = "')[2].partition('"')[0]


def _epoch() -> int:
    """Seconds since 1970: SOURCE_DATE_EPOCH, or the time of the last commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    return int(subprocess.check_output(["git", "-C", REPOSITORY, "log", "-1", "--format=%ct"], text=True))


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": str(_epoch())})


if __name__ == "__main__":
    main()
