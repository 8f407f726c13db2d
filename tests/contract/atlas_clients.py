"""Stock clients that only the atlas has: each is told of a job of smtp_clients.py, ftp_clients.py or http_clients.py.

The contract tests do not play all of their scenarios to these; test_atlas_clients.py plays one to each.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.exceptions
import clients
import dma
import ftp_clients
import http_clients
import openai
import programs
import requests
import smtp_clients
import urllib3
from clients import Client, Report
from ftp_clients import DONE
from http_clients import answered, named, summary
from smtp_clients import SENT

HERE = Path(__file__).parent
PHPMAILER = Path("/usr/share/php/libphp-phpmailer")  # where Debian has it


# ---- SMTP -------------------------------------------------------------------------------------------


def _mail(job: smtp_clients.Job) -> str:
    """The job, for a program in another language."""
    return json.dumps(
        {
            "host": job.host, "port": job.port, "name": smtp_clients.NAME, "sender": job.sender,
            "recipients": job.recipients, "content": job.content.decode(), "body": job.body,
            "message_id": f"<{job.number}@client.test>",
        }
    )  # fmt: skip


def _with_nodemailer(job: smtp_clients.Job) -> Report:
    return _of_node(clients.run("node", str(HERE / "node" / "nodemailer_client.mjs"), _mail(job)), SENT)


def _of_node(done: Any, word: str) -> Report:
    """What the program says in its line of JSON."""
    text = done.stdout + done.stderr
    lines = done.stdout.splitlines()
    return Report(json.loads(lines[-1])["error"] or word if lines else f"exit {done.returncode}", text)


def _with_phpmailer(job: smtp_clients.Job) -> Report:
    done = clients.run("php", str(HERE / "php" / "phpmailer_client.php"), _mail(job))
    lines = done.stdout.splitlines()
    return Report(lines[-1] if lines else f"exit {done.returncode}", done.stdout + done.stderr)


def _need_phpmailer() -> None:
    programs.need_place(PHPMAILER, "libphp-phpmailer")


SMTP: dict[str, Client[smtp_clients.Job]] = {
    client.name: client
    for client in (
        Client("nodemailer", _with_nodemailer, "node", "nodejs", module="nodemailer"),
        Client("PHPMailer", _with_phpmailer, "php", "php-cli", needs=_need_phpmailer),
        Client("dma", dma.send, "dma", "dma", needs=dma.need),
    )
}


# ---- FTP --------------------------------------------------------------------------------------------


def _with_rclone(job: ftp_clients.Job) -> Report:
    secret = clients.run("rclone", "obscure", job.password, folder=job.folder).stdout.strip()
    far = f":ftp:{job.name}"
    places = [str(job.file), far] if job.task == "put" else [far, str(job.file)]
    done = clients.run(
        "rclone", "copyto", "--config", os.devnull, "--ftp-host", job.host, "--ftp-port", str(job.port),
        "--ftp-user", job.user, "--ftp-pass", secret, *places, folder=job.folder,
    )  # fmt: skip
    return clients.report(done, DONE)


def _with_basic_ftp(job: ftp_clients.Job) -> Report:
    told = {
        "host": job.host, "port": job.port, "user": job.user, "password": job.password,
        "task": job.task, "name": job.name, "file": str(job.file),
    }  # fmt: skip
    script = str(HERE / "node" / "basic_ftp_client.mjs")
    return _of_node(clients.run("node", script, json.dumps(told), folder=job.folder), DONE)


def _with_axel(job: ftp_clients.Job) -> Report:
    """It gets a file in four pieces at once."""
    done = clients.run("axel", "--quiet", "--output", job.name, ftp_clients.url(job, job.name), folder=job.folder)
    return clients.report(done, DONE)


FTP: dict[str, Client[ftp_clients.Job]] = {
    client.name: client
    for client in (
        Client("rclone", _with_rclone, "rclone", "rclone"),
        Client("basic-ftp", _with_basic_ftp, "node", "nodejs", module="basic-ftp"),
        Client("axel", _with_axel, "axel", "axel", cannot=frozenset({"put"})),
    )
}


# ---- HTTP -------------------------------------------------------------------------------------------


def _each(job: http_clients.Job, ask: Callable[[str], int], errors: tuple[type[Exception], ...]) -> Report:
    """Ask for each URL; `ask` gives the status."""
    words, text = [], []
    with clients.untidy():
        for url in job.urls:
            try:
                words.append(answered(ask(url)))
            except errors as error:
                words.append(named(error))
                text.append(str(error))
    return Report(summary(words), "\n".join(text))


def _with_requests(job: http_clients.Job) -> Report:
    """With the word `retry`: as its documentation has it, with a Retry of urllib3."""
    with requests.Session() as session:
        session.trust_env = False
        if job.retry:
            session.mount("https://", requests.adapters.HTTPAdapter(max_retries=_retry()))

        def ask(url: str) -> int:
            return session.request(job.method, url, data=job.content, verify=job.ca_file, timeout=job.wait).status_code

        return _each(job, ask, (requests.RequestException,))


def _retry() -> urllib3.Retry:
    return urllib3.Retry(total=3, backoff_factor=1, status_forcelist=(421, 429, 500, 502, 503, 504))


def _with_urllib3(job: http_clients.Job) -> Report:
    with urllib3.PoolManager(ca_certs=job.ca_file, timeout=job.wait) as pool:

        def ask(url: str) -> int:
            return pool.request(job.method.upper(), url, body=job.content).status

        return _each(job, ask, (urllib3.exceptions.HTTPError,))


def _with_boto3(job: http_clients.Job) -> Report:
    """It gets an object of S3; it posts a message to SQS."""
    config = botocore.config.Config(s3={"addressing_style": "path"}, proxies={})
    settings: dict[str, Any] = {
        "region_name": "eu-west-1", "aws_access_key_id": "key", "aws_secret_access_key": "secret",
        "verify": job.ca_file, "config": config,
    }  # fmt: skip

    def ask(url: str) -> int:
        try:
            if job.method == "post":
                queue = boto3.client("sqs", endpoint_url=_origin(url), **settings)
                answer = queue.send_message(QueueUrl=url, MessageBody="Hello, Bob.")
            else:
                answer = boto3.client("s3", endpoint_url=_origin(url), **settings).get_object(Bucket="b", Key="thing")
                answer["Body"].read()
            return answer["ResponseMetadata"]["HTTPStatusCode"]
        except botocore.exceptions.ClientError as error:
            return error.response["ResponseMetadata"]["HTTPStatusCode"]

    return _each(job, ask, (botocore.exceptions.BotoCoreError,))


def _with_openai(job: http_clients.Job) -> Report:
    """It gets the list of models; it posts a request for a completion."""

    def ask(url: str) -> int:
        with (
            openai.DefaultHttpxClient(verify=job.context, trust_env=False) as transport,
            openai.OpenAI(api_key="key", base_url=f"{_origin(url)}/v1", http_client=transport) as client,
        ):
            try:
                if job.method == "post":
                    client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hello, Bob."}])
                else:
                    client.models.list()
            except openai.APIStatusError as error:
                return error.status_code
            return 200

    return _each(job, ask, (openai.OpenAIError,))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _with_java(job: http_clients.Job) -> Report:
    hosts = job.folder / "hosts"
    hosts.write_text("".join(f"{job.host} {host}\n" for host in job.hosts))
    done = clients.run(
        "java", "-XX:TieredStopAtLevel=1", f"-Djdk.net.hosts.file={hosts}", "-cp", _classes().name, "HttpClientJob",
        job.ca_file, job.file or "", *job.urls, folder=job.folder,
    )  # fmt: skip
    return _lines(done)


@cache
def _classes() -> tempfile.TemporaryDirectory[str]:
    """The program, compiled once for each run of the tests."""
    place = tempfile.TemporaryDirectory(prefix="notnow-java-")
    subprocess.run(["javac", "-d", place.name, str(HERE / "java" / "HttpClientJob.java")], check=True, timeout=120)
    return place


def _lines(done: Any) -> Report:
    """What the program says in its lines, which are statuses and names of errors."""
    words: Iterable[str] = done.stdout.split()
    said = [answered(int(word)) if word.isdecimal() else word for word in words]
    return Report(summary(said) if said else f"exit {done.returncode}", done.stdout + done.stderr)


def _with_wget(job: http_clients.Job) -> Report:
    """It cannot be told where a host is, so it asks localhost."""
    data = [f"--post-file={job.file}"] if job.file else []
    done = clients.run(
        "wget", "--no-config", "--no-proxy", "--inet4-only", "--server-response", f"--ca-certificate={job.ca_file}",
        "--output-document=-", *data, f"https://localhost:{job.port}{http_clients.PATH}", folder=job.folder,
    )  # fmt: skip
    return clients.report(done, DONE)


async def service(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """What boto3 and openai's client ask for: one answer that each of their requests can do with."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": json.dumps(_ANSWER).encode()})


_ANSWER = {
    "object": "list", "data": [], "id": "1", "created": 0, "model": "m", "MessageId": "1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
}  # fmt: skip

HTTP: dict[str, Client[http_clients.Job]] = {
    client.name: client
    for client in (
        Client("requests", _with_requests),
        Client("urllib3", _with_urllib3),
        Client("boto3", _with_boto3),
        Client("openai", _with_openai),
        Client("got", http_clients.with_node("got_client.mjs"), "node", "nodejs", module="got"),
        Client("Java HttpClient", _with_java, "java", "default-jdk-headless"),
        Client("wget", _with_wget, "wget", "wget"),
    )
}
