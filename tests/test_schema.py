"""The JSON Schema of scenario files, in the programs that editors use it with: Taplo, and Ajv as strict as SchemaStore asks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import programs
import pytest

from notnow.language import catalogue
from notnow.language.schema import json_schema

EXAMPLE = Path(__file__).parent / "examples" / "editor" / "busy.notnow.toml"
STRICT = """
const Ajv = require("ajv")
const schema = JSON.parse(require("fs").readFileSync(0, "utf8"))
new Ajv({ strict: true, strictTypes: true, strictTuples: true, strictRequired: true, logger: false }).compile(schema)
"""


def ajv(schema: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    programs.need("node", "nodejs")
    programs.need_module("ajv")
    command = ["node", "--eval", STRICT]
    return subprocess.run(command, input=json.dumps(schema), capture_output=True, text=True, timeout=60)


def taplo(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, str]:
    programs.need("taplo", "taplo")
    done = subprocess.run(["taplo", "lint", *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    file = tmp_path / "scenario.schema.json"
    file.write_text(json.dumps(json_schema()), "utf-8")
    return file


def test_it_says_what_schemastore_asks() -> None:
    about = json_schema()
    assert about["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert about["$id"].startswith("https://json.schemastore.org/")
    assert about["title"]
    assert about["description"]
    assert set(_references(about)) == {f"#/definitions/{name}" for name in about["definitions"]}


def _references(node: Any, beside: Any = ()) -> list[str]:
    """Every `$ref`, after a look that nothing stands beside it, which draft 7 would ignore."""
    if isinstance(node, list):
        return [found for item in node for found in _references(item)]
    if not isinstance(node, dict):
        return []
    assert "$ref" not in node or len(node) == 1, node
    return [*([node["$ref"]] if "$ref" in node else []), *(f for item in node.values() for f in _references(item))]


def test_ajv_takes_it_in_strict_mode() -> None:
    done = ajv(json_schema())
    assert (done.returncode, done.stderr) == (0, "")
    assert ajv(json_schema() | {"minItems": 1}).returncode != 0  # it looks: a list of nothing is an object


def test_taplo_accepts_the_catalogue(schema: Path) -> None:
    files = [catalogue.locate(name) for name in catalogue.names()]
    code, said = taplo("--schema", schema.as_uri(), *files)
    assert code == 0, said
    assert f"total={len(files)} " in said


def test_the_line_at_the_top_names_the_schema_to_taplo(schema: Path) -> None:
    scenario = Path(shutil.copy(EXAMPLE, schema.parent))
    assert taplo(scenario)[0] == 0
    scenario.write_text(scenario.read_text("utf-8").replace('"connect"', '"conect"'), "utf-8")
    code, said = taplo(scenario)
    assert code == 1
    assert "busy.notnow.toml:10:" in said
