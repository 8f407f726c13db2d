"""`notnow schema`: the JSON Schema of a scenario file."""

from __future__ import annotations

import json

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema (draft 7) of a scenario file, for editors.

    \b
    Example, for the "Even Better TOML" extension (taplo) and similar ones:
      notnow schema > scenario.schema.json
    and on the first line of your scenario:
      #:schema ./scenario.schema.json
    """
    from notnow.language.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
