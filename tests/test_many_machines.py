"""The how-to page on many machines: its manifests fit Kubernetes, and its commands and its test run as shown."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import programs
import pytest
import yaml
from click.testing import CliRunner

from cli_process import Notnow
from notnow.cli import group
from redis_server import RedisServer, running
from shared_service import lines

HERE = Path(__file__).parent / "examples" / "many-machines"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((HERE / "kubernetes.yaml").read_text()))
KUBERNETES = "1.33"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    with running(tmp_path) as found:
        yield found


def test_the_manifests_fit_the_schemas_of_kubernetes(tmp_path: Path) -> None:
    programs.need("kubernetes-validate", "kubernetes-validate")
    check = ["kubernetes-validate", "--strict", "-k", KUBERNETES]
    done = subprocess.run([*check, str(HERE / "kubernetes.yaml")], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((HERE / "kubernetes.yaml").read_text().replace("containerPort: 2525", "containrPort: 2525"))
    done = subprocess.run([*check, str(wrong)], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0, "the check finds mistakes"


def named(kind: str, name: str) -> dict[str, Any]:
    return next(one for one in MANIFESTS if (one["kind"], one["metadata"]["name"]) == (kind, name))


def test_the_manifests_belong_together() -> None:
    (container,) = named("Deployment", "mx")["spec"]["template"]["spec"]["containers"]
    port = named("Service", "mx")["spec"]["ports"][0]["targetPort"]
    assert f"--port={port}" in container["args"]
    assert container["ports"] == [{"containerPort": port}]
    redis = named("Service", "redis")
    assert f"--shared=redis://{redis['metadata']['name']}:{redis['spec']['ports'][0]['port']}/0" in container["args"]
    for deployment in (named("Deployment", name) for name in ("mx", "redis")):
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        # Pods of two versions would be of two services, and two Redis at once would have half of the counts each.
        assert deployment["spec"]["strategy"] == {"type": "Recreate"}
        assert deployment["spec"]["selector"]["matchLabels"] == labels
        assert named("Service", deployment["metadata"]["name"])["spec"]["selector"] == labels


def in_this_place(words: list[str], server: RedisServer) -> list[str]:
    """A command with this Redis, and a free port of this machine."""
    told = [word.replace("redis:6379", f"127.0.0.1:{server.port}") for word in words]
    told = [word.replace("127.0.0.1:6379", f"127.0.0.1:{server.port}") for word in told]
    told = [re.sub(r"(redis://.*/0)\??", r"\1?socket_timeout=9&", word).rstrip("&") for word in told]  # a busy machine
    return [word.replace("--port=2525", "--port=0").replace("0.0.0.0", "127.0.0.1") for word in told]


def admitted(stack: ExitStack, command: list[str], replicas: int, clients: int = 70) -> int:
    made = [stack.enter_context(Notnow(*command, "--json")) for _ in range(replicas)]
    ports = [int(process.until(event="listening")["port"]) for process in made]
    return sum(line.admitted for line in stack.enter_context(lines(ports, clients)))


def test_what_the_manifests_say_is_one_service(server: RedisServer) -> None:
    deployment = named("Deployment", "mx")["spec"]
    args = deployment["template"]["spec"]["containers"][0]["args"]
    with ExitStack() as stack:
        assert admitted(stack, in_this_place(args, server), deployment["replicas"]) == 50


def test_the_commands_of_the_page(server: RedisServer) -> None:
    command = shlex.split((HERE / "serve.sh").read_text(), comments=True)
    command = [word.replace("2525", "0") for word in in_this_place(command, server)]
    with ExitStack() as stack:
        assert admitted(stack, command[1:], 2) == 50
    report = in_this_place(shlex.split((HERE / "report.sh").read_text()), server)
    told = CliRunner().invoke(group, report[1:])
    assert "smtp/too-many-connections" in told.output or "421" in told.output


def test_one_can_try_it_on_one_machine(server: RedisServer) -> None:
    commands = [shlex.split(line, comments=True) for line in (HERE / "try.sh").read_text().splitlines()]
    serve = [in_this_place(words[1 : words.index("&")], server) for words in commands if words[:1] == ["notnow"]]
    assert len(serve) == 2
    with ExitStack() as stack:
        assert sum(admitted(stack, [word.replace("2526", "0") for word in words], 1, 1) for words in serve) == 1


def test_the_shards_of_the_page_have_one_quota(server: RedisServer, tmp_path: Path) -> None:
    """Two shards, one after the other, each with two workers, beside the replica that keeps the service."""
    url = f"{server.url}?socket_timeout=9&name=ci-7"
    keep = shlex.split((HERE / "keep.sh").read_text().replace("$RUN_ID", "7"))
    keep = [word.replace("quota.toml", str(HERE / "quota.toml")) for word in keep]
    test = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(HERE / "test_quota.py")]
    with Notnow(*in_this_place(keep, server)[1:], "--json") as keeper:
        keeper.until(event="listening")
        for _ in range(2):
            environment = {**os.environ, "NOTNOW_SHARED": url}
            done = subprocess.run(test, capture_output=True, text=True, timeout=240, env=environment, cwd=tmp_path)
            assert "4 passed" in done.stdout, done.stdout
    (journal,) = json.loads(CliRunner().invoke(group, ["report", url, "--json"]).output)["journals"].values()
    replies = Counter(one["reply"][:3] for one in journal if one["event"] == "exchange" and one["moment"] == "mail")
    assert replies == {"250": 3, "452": 5}
