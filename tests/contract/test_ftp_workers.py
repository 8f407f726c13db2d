"""Stock FTP clients of a fake with four workers: whichever worker they come to, it is one server."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import clients
import programs
import pytest
from ftp_clients import CLIENTS, DONE, EVERYBODY, UPLOAD, Job, assert_came_through, attempt, digest, lftp

from conftest import LOOPS
from ftp_client import Raw
from notnow.clock import Stamps
from workers_ftp import crew

if TYPE_CHECKING:
    from clients import Client

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="workers need Linux")

WORKERS = 4


@pytest.fixture(autouse=True)
def loop() -> None:
    """The crew is started on each loop."""


@pytest.fixture(scope="module", params=LOOPS)
def shared(request: pytest.FixtureRequest) -> Iterator[Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTNOW_LOOP", request.param)
        with crew("ftp/healthy", WORKERS) as fake:
            yield fake


@pytest.fixture
def ftp(shared: Any) -> Iterator[Any]:
    yield shared
    shared.play("ftp/healthy")
    shared.reset()


@pytest.mark.parametrize("client", EVERYBODY)
def test_what_one_connection_puts_the_next_ones_list_and_get(ftp: Any, client: Client[Job], tmp_path: Path) -> None:
    ways = [way for way in ("put", "list", "get", "get active") if not client.cannot & set(way.split())]
    for way in ways:
        assert_came_through(ftp, tmp_path, way, attempt(client, ftp, tmp_path, way))
    if "put" in ways:
        assert attempt(client, ftp, tmp_path, "get", name="up.bin").said == DONE
        assert digest((tmp_path / "up.bin").read_bytes()) == digest(UPLOAD)


def test_lftp_mirrors_over_many_connections_and_gets_a_file_in_pieces(ftp: Any, tmp_path: Path) -> None:
    programs.need("lftp", "lftp")
    made = {f"{n}.bin": random.Random(n).randbytes(50_000 * n) for n in range(1, 17)}
    (tmp_path / "up").mkdir()
    for name, content in made.items():
        (tmp_path / "up" / name).write_bytes(content)
    script = "mirror -R --parallel=8 up there && mirror --parallel=8 there back && pget -n 6 -c big.bin"
    job = Job(ftp.host, ftp.port, ftp.ca_file, tmp_path, options=("set cmd:fail-exit yes",))
    command = lftp(job)
    command[-1] = command[-1].rpartition("; ")[0] + f"; {script}"
    assert clients.report(clients.run(*command, folder=tmp_path), DONE).said == DONE
    ftp.settle()
    for name, content in made.items():
        assert digest((tmp_path / "back" / name).read_bytes()) == digest(content)
        ftp.assert_stored(f"there/{name}", content)
    assert hashlib.sha256((tmp_path / "big.bin").read_bytes()).hexdigest() == ftp.files.sha256("big.bin")
    places = {c.exchanges[0].index % Stamps.PLACES for c in ftp.journal.connections}
    assert len(places) > 1


def test_a_cap_refuses_every_curl_while_others_hold_its_slots_and_lets_one_in_for_each_that_leaves(
    ftp: Any, tmp_path: Path
) -> None:
    client = CLIENTS["curl"]
    clients.need(client)
    ftp.play("ftp/too-many-users", cap=3)
    folders = [tmp_path / str(n) for n in range(8)]
    for folder in folders:
        folder.mkdir()

    def get(folder: Path) -> bool:
        return attempt(client, ftp, folder, "get").said == DONE

    holders = [Raw(ftp) for _ in range(3)]
    assert {holder.code() for holder in holders} == {"220"}
    with ThreadPoolExecutor(len(folders)) as pool:
        assert list(pool.map(get, folders)) == [False] * len(folders)
    holders.pop().close()
    assert [get(folder) for folder in folders] == [True] * len(folders)
    for holder in holders:
        holder.close()
