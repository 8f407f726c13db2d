"""The documentation: each of its code blocks is a file under tests/examples that is run, and it builds strictly.

A `.console` file is a terminal session: lines that begin with `$ ` are run in a copy of its directory, and what
follows each must be what it prints. `NOTNOW_UPDATE_DOCS=1 pytest tests/test_docs.py` writes what they print now
into the files, for you to read in the diff.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import programs
import pytest

import control_api

ROOT = Path(__file__).resolve().parents[1]
DOCS, EXAMPLES = ROOT / "docs", ROOT / "tests" / "examples"
UPDATE = bool(os.environ.get("NOTNOW_UPDATE_DOCS"))
needs_sh = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh here")


def pages() -> list[Path]:
    return sorted(p for p in DOCS.rglob("*.md") if not {"generated", "_build"}.intersection(p.parts))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def included() -> Iterator[Path]:
    for page in pages():
        for target in re.findall(r"\{literalinclude\} (\S+)", page.read_text("utf-8")):
            yield (page.parent / target).resolve()


# ---- every block is a file, and every file is run -----------------------------------------------

ALONE = (
    "readme/careless",
    "readme/try",
    "misdirected",
    "postfix",
    "replay",
    "sweep",
    "tutorial",
    "xdist",
    "add-a-condition",
    "add-a-fault",
    "add-a-moment",
    "add-a-protocol",
    "add-a-rule",
    "add-a-scenario",
)  # see conftest.py
SESSIONS = sorted(EXAMPLES.rglob("*.console"))
SCRIPTS = [  # each has a test of its own, here or in test_action, _chaos_toolkit, _image, _many_machines, _pre_commit, _recipes, _schema
    *sorted((EXAMPLES / "chaos").iterdir()),
    *sorted(EXAMPLES.glob("*.sh")),
    *(
        file
        for folder in ("ci", "container", "control", "editor", "many-machines")
        for file in sorted((EXAMPLES / folder).rglob("*.*"))
    ),
]


def is_run(file: Path) -> bool:
    """Whether some test runs this example."""
    alone = any(file.is_relative_to(EXAMPLES / directory) for directory in ALONE)
    if file in SCRIPTS:
        return True
    if file.suffix == ".py" and not alone:
        return file.name.startswith("test_")
    if alone:
        return any(file.parent.glob("*.console")) or any(file.parent.glob("*.patch"))
    if file.suffix == ".toml":
        users = [*EXAMPLES.glob("test_*.py"), *EXAMPLES.glob("*.console")]
        return any(file.name in user.read_text("utf-8") for user in users)
    return file in SESSIONS or file in SCRIPTS


@pytest.mark.parametrize("file", sorted(set(included())), ids=name)
def test_an_included_file_is_there_and_is_run(file: Path) -> None:
    assert file.is_file()
    assert is_run(file), f"no test runs {name(file)}"


@pytest.mark.parametrize("page", pages(), ids=name)
def test_a_page_has_no_code_of_its_own(page: Path) -> None:
    fences = re.findall(r"^\s*(?:```+|~~~+|:::+)(.+)$", page.read_text("utf-8"), re.MULTILINE)
    assert [fence for fence in fences if not fence.startswith("{")] == []


@pytest.mark.parametrize("page", [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "README.md"], ids=name)
def test_a_file_that_a_page_names_is_there(page: Path) -> None:
    named = re.findall(
        r"`((?:fakes|tests|docs|servers|conduct|cli|time_travel)/[\w/]*|[\w/]+\.py)`", page.read_text("utf-8")
    )
    own = {"mailer.py", "test_mailer.py", "tests/test_NAME.py"}
    own |= {
        "fakes/notnow/protocols/lmtp.py",
        "fakes/notnow/servers/lmtp/",
        "fakes/notnow/conduct/rules/smtp/leaving.py",
    }
    places = (ROOT, ROOT / "fakes" / "notnow", ROOT / "tests")
    assert [file for file in named if file not in own and not any((place / file).exists() for place in places)] == []


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_blocks_of_the_readme_are_files() -> None:
    shown = blocks((ROOT / "README.md").read_text("utf-8"))
    files = [file.read_text("utf-8") for file in (EXAMPLES / "readme").rglob("*.*") if "__pycache__" not in file.parts]
    assert shown
    assert [block for block in shown if block not in files] == []


def test_the_first_example_of_the_readme_stands_on_the_first_screen() -> None:
    before, _, _ = (ROOT / "README.md").read_text("utf-8").partition("```python\n")
    assert before.count("\n") < 24


# ---- terminal sessions --------------------------------------------------------------------------

VARIES = [
    (r"\b0x[0-9a-f]+", "0x…"),
    (r"(exited with \d+ after) \S+", r"\1 …"),
    (r"\|[x!+. -]{32}\|", "|…|"),  # a lane is to scale
    (r"\bseed \d+", "seed …"),
    (r"\bin \d+\.\d+s\b(?: \([\d:]+\))?", "in …s"),
    (r"([=_-])\1{2,}", r"\1\1\1"),
    (r"\b(?:0s|\d+ms)\b", "…ms"),
    (r"\b(\d+)\.\d+s\b", r"\1s"),
    (r"(?i)\b(ehlo|helo) \S+", r"\1 …"),
    (r"\bmail from:", "mail FROM:"),  # as smtplib says it before Python 3.13
    (r"\brcpt to:", "rcpt TO:"),
    (r"(127\.0\.0\.1|localhost|\.test):\d+", r"\1:…"),
    (r"[ \t]+", " "),
    (r" $", ""),
]


def alike(text: str) -> str:
    """A text without what differs from run to run."""
    for pattern, instead in VARIES:
        text = re.sub(pattern, instead, text, flags=re.MULTILINE)
    return text.strip()


def environment() -> dict[str, str]:
    """What a reader's terminal would have, 80 columns wide, with this Python first in its path."""
    foreign = ("PYTEST", "PY_COLORS", "COV_", "COVERAGE", "NOTNOW", "CI", "BUILD_NUMBER", "FORCE_COLOR")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    quiet = {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider"}
    return {**kept, **quiet, "PATH": path, "COLUMNS": "80", "NO_COLOR": "1", "TERM": "dumb"}


def run(command: str, directory: Path, **extra: str) -> str:
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=directory,
        env=environment() | extra,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        text=True,
    )
    return done.stdout


def played(session: str) -> str:
    """The shell script that plays a session: says each command, and runs it; `$?` is of the one before."""
    lines = ["code=0"]
    for command in re.findall(r"^\$ (.+)$", session, re.MULTILINE):
        lines += [f"printf '$ %s\\n' {shlex.quote(command)}", "(exit $code)", command, "code=$?"]
    return "\n".join(lines)


def check(file: Path, printed: str) -> None:
    """What was printed is what the file shows, but for what differs from run to run."""
    shown = file.read_text("utf-8")
    if UPDATE and alike(printed) != alike(shown):
        file.write_text(printed.rstrip("\n") + "\n", "utf-8")
    elif not UPDATE and not is_later(alike(printed), alike(shown)):
        assert alike(printed) == alike(shown)


def is_later(printed: str, shown: str) -> bool:
    """True if the texts differ at most where something takes a busy machine a second or two more: what is shown to come
    at once, and under `notnow try`, whose clients wait in real time, what is shown to take less than ten seconds. There
    it may also be a second less, since what it is counted from may be late.
    """
    late = re.escape(shown).replace("…ms", "(?:…ms|[12]s)")
    if shown.startswith("$ notnow try "):
        late = re.sub(r"(?<!\w)([1-9])s\b", _about, late)
    return re.fullmatch(late, printed) is not None


def _about(told: re.Match[str]) -> str:
    n = int(told[1])
    return f"(?:{'|'.join(f'{late}s' if late else '…ms' for late in range(n - 1, n + 3))})"


def test_a_busy_machine_may_be_late_and_nothing_else() -> None:
    shown = alike("-> 0s #1 x connect: 421 (busy)\n-> 60s #2 ok")
    assert is_later(alike("-> 12ms #1 x connect: 421 (busy)\n-> 60s #2 ok"), shown)
    assert is_later(alike("-> 1.2s #1 x connect: 421 (busy)\n-> 60s #2 ok"), shown)
    assert not is_later(alike("-> 4s #1 x connect: 421 (busy)\n-> 60s #2 ok"), shown)
    assert not is_later(alike("-> 0s #1 x connect: 421 (busy)\n-> 61s #2 ok"), shown)


def test_a_busy_machine_may_hold_up_a_client_that_waits_really() -> None:
    shown = alike("$ notnow try a\n1.01s #2 |..x.| x (1.01s, 60s)")
    assert is_later(alike("$ notnow try a\n2.2s #2 |..x.| x (1.9s, 60s)"), shown)
    assert is_later(alike("$ notnow try a\n990ms #2 |..x.| x (1.9s, 60s)"), shown)
    assert not is_later(alike("$ notnow try a\n4.2s #2 |..x.| x (1.9s, 60s)"), shown)
    assert not is_later(alike("$ notnow try a\n2.2s #2 |..x.| x (1.9s, 61s)"), shown)
    assert not is_later("$ notnow storm a\n2s", "$ notnow storm a\n1s")


def copied(directory: Path, to: Path) -> Path:
    ignored = shutil.ignore_patterns("__pycache__", "conftest.py")
    return shutil.copytree(directory, to, ignore=ignored)


@needs_sh
@pytest.mark.parametrize("file", [s for s in SESSIONS if s.parent.name not in ("serve", "postfix")], ids=name)
def test_a_session_prints_what_it_shows(file: Path, tmp_path: Path) -> None:
    here = copied(file.parent, tmp_path / "here")
    check(file, run(played(file.read_text("utf-8")), here))
    for picture in here.glob("*.svg"):
        check(file.parent / picture.name, picture.read_text("utf-8"))


@pytest.mark.skipif(
    not (shutil.which("postfix", path="/usr/sbin") and shutil.which("faketime") and os.geteuid() == 0),
    reason="it needs Postfix and faketime, and root who starts them",
)
def test_a_schedule_of_hours_takes_seconds(tmp_path: Path) -> None:
    here = copied(EXAMPLES / "postfix", tmp_path / "here")
    file = here / "run.console"
    check(EXAMPLES / "postfix" / file.name, run(played(file.read_text("utf-8")), here))


SERVE = EXAMPLES / "serve"


@contextmanager
def serving(command: str, directory: Path) -> Iterator[tuple[str, list[str]]]:
    """Run `notnow serve`, on a free port in place of its own; gives that port, and all that it printed in the end."""
    args = shlex.split(command.replace("--port 2525", "--port 0"))
    args[0] = str(Path(sys.executable).with_name(args[0]))
    pipe = subprocess.PIPE
    with subprocess.Popen(args, cwd=directory, env=environment(), stdout=pipe, text=True) as server:
        assert server.stdout is not None
        printed: list[str] = []
        try:
            while not (found := re.search(r"127\.0\.0\.1:(\d+)", "".join(printed))):
                printed.append(server.stdout.readline())
                assert printed[-1], f"ended early: {printed}"
            yield found[1], printed
            server.send_signal(signal.SIGINT)
            printed.append(server.stdout.read())
            assert server.wait(timeout=10) == 0
        finally:
            server.kill()


@needs_sh
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("swaks")), reason="curl or swaks is not installed")
def test_serving_curl_and_swaks(tmp_path: Path) -> None:
    shown = {part: (SERVE / f"{part}.console").read_text("utf-8") for part in ("server", "curl", "swaks")}
    said = {}
    start = shown["server"].splitlines()[0].removeprefix("$ ")
    with serving(start, tmp_path) as (port, printed):
        for part in ("curl", "swaks"):
            said[part] = run(played(shown[part]).replace("2525", port), tmp_path).replace(port, "2525")
    said["server"] = f"$ {start}\n" + "".join(printed).replace(port, "2525")
    for part, text in said.items():
        check(SERVE / f"{part}.console", text)


@needs_sh
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_serving_as_json_to_any_language(tmp_path: Path) -> None:
    said = run((EXAMPLES / "serve_json.sh").read_text("utf-8"), tmp_path)
    assert said.splitlines()[1:] == ["it was told 421 4.3.2 All server ports are busy"]
    assert said.splitlines()[0] in ("the client ended with 8", "the client ended with 56")  # curl: weird reply, or none


@needs_sh
def test_driving_fakes_over_http(tmp_path: Path) -> None:
    programs.need("curl", "curl")
    programs.need("jq", "jq")
    said = run((EXAMPLES / "control" / "outage.sh").read_text("utf-8"), tmp_path)
    assert said.splitlines() == ["not now: 421 4.3.2 All server ports are busy", "delivered", "well behaved"]
    assert "<testsuite " in (tmp_path / "notnow.xml").read_text("utf-8")


def test_judging_a_server_that_runs_elsewhere(tmp_path: Path) -> None:
    with control_api.running() as api:
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            str(EXAMPLES / "control" / "test_elsewhere.py"),
        ]
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "NOTNOW_CONTROL": api.url}, capture_output=True, text=True
        )
    assert "1 passed" in done.stdout, done.stdout


FAILURE = EXAMPLES / "readme" / "careless" / "failure.txt"


def test_the_failure_in_the_readme_is_a_passage_of_a_real_run() -> None:
    session = (FAILURE.parent / "run.console").read_text("utf-8")
    if UPDATE:
        passage = re.search(r"^>.*?AssertionError\n(?=-)", session, re.MULTILINE | re.DOTALL)
        assert passage is not None
        FAILURE.write_text(passage[0], "utf-8")
    assert FAILURE.read_text("utf-8") in session


PASSED = re.compile(r"^[0-9]+ passed(?:, [0-9]+ deselected)? in ", re.MULTILINE)

# ---- adding to notnow ---------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here, which applies patches")
@pytest.mark.parametrize(
    "directory", ["add-a-condition", "add-a-fault", "add-a-moment", "add-a-protocol", "add-a-rule"]
)
def test_a_page_about_adding_tells_all_that_is_needed(directory: str, tmp_path: Path) -> None:
    """In a copy of the code its patch applies, and its tests pass; without the patch they do not."""
    here = copied(EXAMPLES / directory, tmp_path / "here")
    copied(ROOT / "fakes", tmp_path / "copy" / "fakes")
    copied(ROOT / "scenarios", tmp_path / "copy" / "scenarios")
    ours = {"PYTHONPATH": str(tmp_path / "copy" / "fakes"), "PYTHONDONTWRITEBYTECODE": ""}
    test = f"{shlex.quote(sys.executable)} -m pytest -q -x"
    assert PASSED.search(run(test, here, **ours)) is None
    patch = next(here.glob("*.patch"))
    assert run(f"git apply -C1 {shlex.quote(str(patch))}", tmp_path / "copy") == ""
    assert PASSED.search(run(test, here, **ours))


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git here, which applies patches")
def test_a_protocol_that_is_added_has_a_whole_record_and_pages_in_the_reference(tmp_path: Path) -> None:
    patch = EXAMPLES / "add-a-protocol" / "lmtp.patch"
    assert len(patch.read_text("utf-8").splitlines()) <= 80
    for source in ("fakes", "scenarios", "docs/_ext"):
        copied(ROOT / source, tmp_path / source)
    assert run(f"git apply -C1 {shlex.quote(str(patch))}", tmp_path) == ""
    ours = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "fakes"), str(tmp_path / "docs" / "_ext")])}
    python = shlex.quote(sys.executable)
    tests = shlex.quote(str(ROOT / "tests" / "test_protocols.py"))
    said = run(f"{python} -m pytest -q -k lmtp --rootdir {shlex.quote(str(ROOT))} {tests}", tmp_path, **ours)
    assert PASSED.search(said), said
    pages = run(f"{python} -c 'import notnow_reference; print(*notnow_reference.pages().values())'", tmp_path, **ours)
    assert "### lmtp" in pages
    assert "# lmtp/healthy" in pages


# ---- the whole ----------------------------------------------------------------------------------


@pytest.mark.skipif(
    importlib.util.find_spec("sphinx") is None, reason="sphinx is not installed (pip install notnow[docs])"
)
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    build = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-n",
        "-q",
        "-b",
        "html",
        "-d",
        str(tmp_path / "trees"),
    ]
    done = subprocess.run([*build, str(DOCS), str(tmp_path / "html")], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
