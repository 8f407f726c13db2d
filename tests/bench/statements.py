"""Print how many statements of the libraries, and of notnow's adapters, `tests/test_adapters.py` runs in functions.

    python -m tests.bench.statements

The figures of `docs/design.md`. Statements outside functions run at import, and are not counted. Takes half a minute.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

LIBRARIES = ("aiosmtpd", "pyftpdlib", "h2", "hpack", "hyperframe", "priority", "h11", "hypercorn")
SETTINGS = f"[run]\nsource_pkgs = notnow, {', '.join(LIBRARIES)}\nconcurrency = thread\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for part, count in sorted(_counted(_measured(Path(folder))).items()):
            print(f"{count:6,}  {part}")


def _measured(folder: Path) -> dict[str, dict[str, object]]:
    """Run the suite under coverage, on asyncio's loop; the files of its JSON report."""
    settings, data, report = folder / "settings", folder / "data", folder / "report"
    settings.write_text(SETTINGS)
    coverage = [sys.executable, "-m", "coverage"]
    common = [f"--rcfile={settings}", f"--data-file={data}"]
    env = {**os.environ, "NOTNOW_TEST_LOOPS": "asyncio"}
    subprocess.run([*coverage, "run", *common, "-m", "pytest", "-q", "tests/test_adapters.py"], env=env, check=True)
    subprocess.run([*coverage, "json", "-q", *common, "-o", report], check=True)
    files: dict[str, dict[str, object]] = json.loads(report.read_text())["files"]
    return files


def _counted(files: dict[str, dict[str, object]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, file in files.items():
        if part := _part(Path(name).parts):
            functions: dict[str, dict[str, list[int]]] = file["functions"]  # type: ignore[assignment]
            counts[part] += sum(len(ran["executed_lines"]) for function, ran in functions.items() if function)
    return counts


def _part(path: tuple[str, ...]) -> str | None:
    """The library, or the folder of notnow's servers, that a file belongs to."""
    if "servers" in path[:-1]:
        return "servers/" + path[path.index("servers") + 1].removesuffix(".py")
    return next((part for part in path if part in LIBRARIES), None)


if __name__ == "__main__":
    main()
